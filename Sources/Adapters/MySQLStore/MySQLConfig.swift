/// Where a database is.
public struct MySQLAddress: Hashable, Sendable, CustomStringConvertible {
    public var host: String
    public var port: Int
    public var database: String

    public init(host: String, port: Int, database: String) {
        self.host = host
        self.port = port
        self.database = database
    }

    public var description: String { "\(host.contains(":") ? "[\(host)]" : host):\(port)/\(database)" }
}

/// How connections are protected.
public struct MySQLTLS: Sendable, Equatable {
    /// PEM file of the authorities that are trusted; nil: those of the system.
    public var authorities: String?
    /// PEM files of our own certificate and key, when the server wants one.
    public var certificate: String?
    public var key: String?

    public init(authorities: String? = nil, certificate: String? = nil, key: String? = nil) {
        self.authorities = authorities
        self.certificate = certificate
        self.key = key
    }
}

/// Servers, credentials and limits. Times in milliseconds unless their names say otherwise.
public struct MySQLConfig: Sendable, Equatable {
    /// One database; or the shards of the recent store, whose order never changes.
    public var addresses: [MySQLAddress]
    public var user: String
    public var password = ""
    public var tls: MySQLTLS?

    /// Whole seconds: the library knows no less. Two reads of this length may follow one another.
    public var connectTimeoutS: UInt32 = 3
    public var readTimeoutS: UInt32 = 10
    public var writeTimeoutS: UInt32 = 10
    /// How long a statement waits for another's row, and for another's change of a table. Less than a caller waits.
    public var lockWaitS: UInt32 = 3
    /// The server ends a transaction that has written and says nothing for this long: a process that was stopped in the
    /// middle of one must not hold its buckets for longer. MariaDB only; elsewhere `idleS` is the bound.
    public var idleTransactionS: UInt32 = 5
    /// The server closes a connection that says nothing for this long; here one is renewed after half of it.
    public var idleS: UInt32 = 60
    /// Attempts at a transaction that others keep in the way of.
    public var attempts = 5
    /// Waits between attempts to connect: jittered, doubling from the first to the most.
    public var reconnectFirstMS: UInt64 = 50
    public var reconnectMostMS: UInt64 = 2000
    /// Prepared statements of one connection; the server has 16,382 for all of its connections.
    public var statements = 200
    /// Connections of one shard that read, and that write: a bucket has one of these.
    public var readers = 2
    public var writers = 1
    /// Jobs that wait for a connection of one shard; more are refused with `overloaded`.
    public var waitingJobs = 1024

    public init(_ addresses: [MySQLAddress], user: String, password: String = "") {
        self.addresses = addresses
        self.user = user
        self.password = password
    }

    /// Parses `mysql[s]://user[:password]@host[:port]/database[,host[:port]/database ...]`; the port is 3306 when left
    /// out, `mysqls` is TLS. A user or password that holds `@`, `:`, `/`, `,` or `%` has them percent-encoded. Nil:
    /// not of this form.
    public init?(url: String) {
        guard let mark = url.firstRange(of: "://"), let at = url.lastIndex(of: "@"), at >= mark.upperBound else {
            return nil
        }
        let scheme = url[..<mark.lowerBound]
        guard scheme == "mysql" || scheme == "mysqls" else { return nil }
        let names = url[mark.upperBound..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard let user = names.first.flatMap(Self.decoded), !user.isEmpty else { return nil }
        guard let password = names.count > 1 ? Self.decoded(names[1]) : "" else { return nil }
        var addresses: [MySQLAddress] = []
        for part in url[url.index(after: at)...].split(separator: ",", omittingEmptySubsequences: false) {
            guard let address = Self.address(part) else { return nil }
            addresses.append(address)
        }
        guard Set(addresses).count == addresses.count else { return nil }
        self.init(addresses, user: user, password: password)
        if scheme == "mysqls" { tls = MySQLTLS() }
    }

    private static func address(_ text: Substring) -> MySQLAddress? {
        guard let slash = text.lastIndex(of: "/") else { return nil }
        let database = String(text[text.index(after: slash)...])
        var host = text[..<slash]
        var port: Int? = 3306
        let end = host.lastIndex(of: "]")
        if let colon = host.lastIndex(of: ":"), end.map({ colon > $0 }) ?? true {
            port = Int(host[host.index(after: colon)...])
            host = host[..<colon]
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        let plain = database.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x5f
                || $0 == 0x2d
        }
        guard let port, (1...65_535).contains(port), !host.isEmpty, !database.isEmpty, plain else { return nil }
        return MySQLAddress(host: String(host), port: port, database: database)
    }

    private static func decoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
                return nil
            }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(validating: bytes, as: UTF8.self)
    }
}
