import Glibc

/// Where to connect to, looked up once, and from which local addresses.
struct ServerAddress {
    /// Connections from one local address: well under the ephemeral ports that Linux has by default (28,232).
    static let connectionsPerSource = 9500

    let text: String
    let host: String
    private let bytes: [UInt8]
    private let family: Int32

    init(host: String, port: Int) throws(BenchError) {
        self.host = host
        text = "\(host):\(port)"
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, "\(port)", &hints, &found)
        guard code == 0, let first = found, let address = first.pointee.ai_addr else {
            throw BenchError("cannot find the server \(host): \(String(cString: gai_strerror(code)))")
        }
        defer { freeaddrinfo(first) }
        family = first.pointee.ai_family
        bytes = Array(UnsafeRawBufferPointer(start: address, count: Int(first.pointee.ai_addrlen)))
    }

    /// The address is of 127.0.0.0/8, where every address is ours to connect from.
    var isLoopback: Bool { family == AF_INET && bytes.count > 4 && bytes[4] == 127 }

    /// A socket that is connecting.
    ///
    /// - Parameter number: of the connection; decides the source address.
    /// - Parameter receiveBytes: of its receive buffer; nil: the system's choice.
    func connect(number: Int, receiveBytes: Int32? = nil) throws(BenchError) -> Int32 {
        let flags = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(family, flags, 0)
        guard descriptor >= 0 else {
            throw BenchError("cannot open connection \(number + 1): \(Self.lastError) (ulimit -n may be too low)")
        }
        var on: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
        if var receiveBytes {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receiveBytes, socklen_t(MemoryLayout<Int32>.size))
        }
        if isLoopback { try bindSource(descriptor, number / Self.connectionsPerSource) }
        let result = bytes.withUnsafeBytes { raw in
            raw.baseAddress.map {
                Glibc.connect(descriptor, $0.assumingMemoryBound(to: sockaddr.self), socklen_t(raw.count))
            }
        }
        guard result == 0 || errno == EINPROGRESS else {
            let why = Self.lastError
            close(descriptor)
            throw BenchError("cannot connect to \(text): \(why); is the server running there?")
        }
        return descriptor
    }

    /// Binds to 127.0.0.2, 127.0.0.3 ...; the port is chosen at the connect.
    private func bindSource(_ descriptor: Int32, _ block: Int) throws(BenchError) {
        var on: Int32 = 1
        setsockopt(descriptor, Int32(IPPROTO_IP), IP_BIND_ADDRESS_NO_PORT, &on, socklen_t(MemoryLayout<Int32>.size))
        var source = sockaddr_in()
        source.sin_family = sa_family_t(AF_INET)
        source.sin_addr.s_addr = (0x7f00_0002 + UInt32(block)).bigEndian
        let result = withUnsafePointer(to: &source) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 else {
            let why = Self.lastError
            close(descriptor)
            throw BenchError("cannot connect from 127.0.0.\(2 + block): \(why)")
        }
    }

    static var lastError: String { String(cString: strerror(errno)) }

    /// Lets this process open as many files as its hard limit allows.
    ///
    /// - Throws: when those are fewer than needed.
    static func raiseFileLimit(for connections: Int) throws(BenchError) {
        let wanted = rlim_t(connections + 64)
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        guard limit.rlim_cur < wanted else { return }
        guard limit.rlim_max >= wanted else {
            throw BenchError(
                "\(connections) connections need `ulimit -n \(wanted)`; the hard limit is \(limit.rlim_max)")
        }
        limit.rlim_cur = wanted
        guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            throw BenchError("cannot raise the limit of open files to \(wanted): \(lastError)")
        }
    }
}
