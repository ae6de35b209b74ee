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

/// Asks the system whether a port can be listened on.
enum PortProbe {
    /// What is wrong with the port, or nil.
    static func problem(host: String, port: Int) -> String? {
        let probe = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard probe >= 0 else { return nil }
        defer { close(probe) }
        var yes: Int32 = 1
        setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        guard inet_pton(AF_INET, host, &address.sin_addr) == 1 else { return nil }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(probe, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        if bound == 0 && listen(probe, 1) == 0 { return nil }
        switch errno {
        case EADDRINUSE: return "is in use"
        case EACCES: return "needs the rights of root"
        case EADDRNOTAVAIL: return "cannot be used: the address is not this machine's"
        default: return "cannot be used: \(String(cString: strerror(errno)))"
        }
    }
}
