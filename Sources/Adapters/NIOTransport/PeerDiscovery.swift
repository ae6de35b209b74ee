import Dispatch
import Foundation
import Logging
import RPC
import Synchronization

/// Says which addresses a name has at this moment.
public protocol PeerResolver: Sendable {
    /// May block for seconds; asked on a thread of its own. An empty answer: there is certainly nobody.
    ///
    /// - Throws: when nothing can be said.
    func addresses(of host: String) throws -> [String]
}

/// The system's resolver: DNS, /etc/hosts, and addresses as they are.
public struct SystemResolver: PeerResolver {
    /// The resolver's own words.
    public struct Trouble: Error, Equatable, CustomStringConvertible {
        public let description: String
    }

    public init() {}

    public func addresses(of host: String) throws -> [String] {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, nil, &hints, &list)
        defer { freeaddrinfo(list) }
        if code == EAI_NONAME || code == -5 { return [] }  // -5: EAI_NODATA, a name without addresses
        guard code == 0 else { throw Trouble(description: String(cString: gai_strerror(code))) }
        var found: [String] = []
        var next = list
        while let info = next {
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            let named = getnameinfo(
                info.pointee.ai_addr, info.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
            let address = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if named == 0, !found.contains(address) { found.append(address) }
            next = info.pointee.ai_next
        }
        return found
    }
}

/// Looks names up again and again, on a thread of its own, and tells what to connect to.
///
/// Isolation: any thread for `stop`; the machine is the thread's.
final class PeerDiscovery: Sendable {
    private let stopped = Mutex(false)
    private let wake = DispatchSemaphore(value: 0)

    init(
        _ names: [PeerAddress], config: DiscoveryConfig, resolver: any PeerResolver, logger: Logger,
        act: @escaping @Sendable (DiscoveryMachine.Action) -> Void
    ) {
        OwnedThread.start(name: "discovery") { [self] in
            var machine = DiscoveryMachine(names, config: config)
            while !stopped.withLock({ $0 }) {
                for name in machine.due(SystemClock.now().micros) {
                    let answer: DiscoveryMachine.Answer
                    do { answer = .addresses(try resolver.addresses(of: name.host)) } catch {
                        logger.debug("a name cannot be looked up", metadata: ["name": "\(name)", "error": "\(error)"])
                        answer = .failed
                    }
                    for action in machine.answered(name, answer, now: SystemClock.now().micros) {
                        logger.info("discovery", metadata: ["name": "\(name)", "does": "\(action)"])
                        if !stopped.withLock({ $0 }) { act(action) }
                    }
                }
                let now = SystemClock.now().micros
                let next = max(machine.nextMicros ?? now, now)
                _ = wake.wait(timeout: .now() + .microseconds(Int(next - now)))
            }
        }
    }

    func stop() {
        stopped.withLock { $0 = true }
        wake.signal()
    }
}
