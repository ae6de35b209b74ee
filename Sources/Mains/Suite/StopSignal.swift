import Dispatch
import Foundation

/// SIGINT and SIGTERM as something to wait for.
enum StopSignal {
    /// Keeps the sources alive while somebody waits; touched only to be released.
    private final class Sources: @unchecked Sendable {
        let all: [any DispatchSourceSignal]
        init(_ all: [any DispatchSourceSignal]) { self.all = all }
        func cancel() { for source in all { source.cancel() } }
    }

    /// A file that may not grow any more (ulimit -f) is a full disk, of which senders are told: not the end.
    static func ignoreFileLimit() { signal(SIGXFSZ, SIG_IGN) }

    static func wait() async {
        let signals = AsyncStream<Void> { continuation in
            let sources = Sources(
                [SIGINT, SIGTERM].map { number in
                    signal(number, SIG_IGN)
                    let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
                    source.setEventHandler { continuation.yield() }
                    source.resume()
                    return source
                })
            continuation.onTermination = { _ in sources.cancel() }
        }
        for await _ in signals { return }
    }
}

/// Asks the system about ports. IPv4 only: what it cannot judge, the listener itself will.
enum PortProbe {
    /// What is wrong with listening on the port, or nil.
    static func problem(host: String, port: Int) -> String? {
        guard let probe = open(host: host, port: port) else { return nil }
        defer { close(probe.socket) }
        if probe.bound && listen(probe.socket, 1) == 0 { return nil }
        switch errno {
        case EADDRINUSE: return "is in use"
        case EACCES: return "needs the rights of root"
        case EADDRNOTAVAIL: return "cannot be used: the address is not this machine's"
        default: return "cannot be used: \(String(cString: strerror(errno)))"
        }
    }

    /// A free port of 127.0.0.1 and the socket that holds it.
    static func free() -> (port: Int, socket: Int32)? {
        guard let probe = open(host: "127.0.0.1", port: 0), probe.bound else { return nil }
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let named = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(probe.socket, $0, &length) }
        }
        guard named == 0 else {
            close(probe.socket)
            return nil
        }
        return (Int(in_port_t(bigEndian: address.sin_port)), probe.socket)
    }

    /// A connected socket whose reads and writes give up after some seconds; nil: nobody is there. IPv4 addresses only.
    static func link(host: String, port: Int, seconds: Int) -> Int32? {
        guard var address = address(host: host, port: port) else { return nil }
        let made = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard made >= 0 else { return nil }
        var patience = timeval(tv_sec: seconds, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(made, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(made, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        if connected == 0 { return made }
        close(made)
        return nil
    }

    /// Whether somebody accepts connections there.
    static func isListening(host: String, port: Int) -> Bool {
        let probe = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard probe >= 0, var address = address(host: host, port: port) else { return false }
        defer { close(probe) }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(probe, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        } == 0
    }

    private static func open(host: String, port: Int) -> (socket: Int32, bound: Bool)? {
        guard var address = address(host: host, port: port) else { return nil }
        let probe = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard probe >= 0 else { return nil }
        var yes: Int32 = 1
        setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(probe, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        return (probe, bound == 0)
    }

    private static func address(host: String, port: Int) -> sockaddr_in? {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        return inet_pton(AF_INET, host, &address.sin_addr) == 1 ? address : nil
    }
}
