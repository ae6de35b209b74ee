import Ports

/// Where a server listens.
public struct RedisAddress: Hashable, Sendable, CustomStringConvertible {
    public var host: String
    public var port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// Parses "host", "host:port" or "[v6]:port"; nil when that is none.
    public init?(_ text: String, defaultPort: Int = 6379) {
        var host = text[...]
        var port: Int? = defaultPort
        let end = text.lastIndex(of: "]")
        if let colon = text.lastIndex(of: ":"), end.map({ colon > $0 }) ?? true {
            host = text[..<colon]
            port = Int(text[text.index(after: colon)...])
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard let port, (1...65_535).contains(port), !host.isEmpty else { return nil }
        self.init(host: String(host), port: port)
    }

    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// One of several servers that share the slots.
public struct RedisShard: Sendable, Equatable {
    /// Where its master is.
    public enum Place: Sendable, Equatable {
        case address(RedisAddress)
        /// Asked of these sentinels, whenever a connection is made.
        case sentinel(master: String, sentinels: [RedisAddress])
    }
    public var place: Place
    /// The slots that it holds.
    public var slots: ClosedRange<UInt16>

    public init(_ place: Place, slots: ClosedRange<UInt16>) {
        self.place = place
        self.slots = slots
    }

    /// These places with even parts of the slots, in order.
    public static func even(_ places: [Place]) -> [RedisShard] {
        places.enumerated().map { index, place in
            let from = index * RedisSlot.count / places.count
            let to = (index + 1) * RedisSlot.count / places.count - 1
            return RedisShard(place, slots: UInt16(from)...UInt16(to))
        }
    }
}

/// How the servers are found.
public enum RedisTopology: Sendable, Equatable {
    /// A list that is configured: one server, or several that share the slots.
    case shards([RedisShard])
    /// A Redis Cluster, found through any of these.
    case cluster(seeds: [RedisAddress])
}

/// How connections are protected.
public struct RedisTLS: Sendable, Equatable {
    /// PEM file of the authorities that are trusted; nil: those of the system.
    public var authorities: String?
    /// PEM files of our own certificate and key, when the servers want one.
    public var certificate: String?
    public var key: String?

    public init(authorities: String? = nil, certificate: String? = nil, key: String? = nil) {
        self.authorities = authorities
        self.certificate = certificate
        self.key = key
    }
}

/// Servers, credentials and limits of a client. Times in milliseconds.
public struct RedisConfig: Sendable, Equatable {
    public var topology: RedisTopology
    /// ACL user; nil: the default user.
    public var username: String?
    public var password: String?
    /// Password of the sentinels, which have their own.
    public var sentinelPassword: String?
    public var tls: RedisTLS?
    /// Whether the servers may drop keys by themselves when their memory is full. One that may (maxmemory-policy other
    /// than noeviction) is not used unless this is set: a cache can be evicted, presence cannot.
    public var mayEvict = false

    /// Commands that are not answered yet; more are refused with `overloaded`.
    public var maxCommands = 65_536
    /// Bytes of these commands.
    public var maxBytes = 64 << 20
    /// Commands of one connection that are on the way; the others wait their turn.
    public var maxInFlight = 1024
    public var connectTimeoutMS: UInt64 = 3000
    /// From there until a server has let us in, which is up to three times there and back over TLS: one that takes two
    /// seconds for everything is slow, not down.
    public var greetingTimeoutMS: UInt64 = 7000
    /// A connection whose oldest command has been without answer for this long is given up. Longer than any command's
    /// deadline, so that a slow server is not cut off for being slow.
    public var stallMS: UInt64 = 10_000
    /// After a connection is lost, commands wait for the next one for this long; then they are refused at once.
    public var graceMS: UInt64 = 500
    /// Waits between attempts to connect: jittered, doubling from the first to the most.
    public var reconnectFirstMS: UInt64 = 50
    public var reconnectMostMS: UInt64 = 2000
    /// Before a command that the cluster could not serve just now is tried again.
    public var retryMS: UInt64 = 100
    /// Times that a command follows MOVED and ASK.
    public var maxRedirects = 8

    /// Longest time from the wish for a connection until it can be used.
    func openingMS(_ place: RedisShard.Place) -> UInt64 {
        let sentinels = if case .sentinel(_, let sentinels) = place { sentinels.count } else { 0 }
        return UInt64(sentinels + 1) * (connectTimeoutMS + greetingTimeoutMS)
    }

    public init(_ topology: RedisTopology) { self.topology = topology }

    /// One server.
    public init(_ address: RedisAddress) { self.init(.shards(RedisShard.even([.address(address)]))) }

    /// Parses one of
    ///
    ///     redis[s]://[user[:password]@]host[:port][,host[:port] ...]          servers that share the slots evenly
    ///     redis[s]+cluster://[user[:password]@]host[:port][,host[:port] ...]  a Redis Cluster, found through these
    ///     redis[s]+sentinel://[user[:password]@]host[:port][,...]/master[,master ...]  one shard per master's name
    ///
    /// `rediss` is TLS. A user or password that holds `@`, `:`, `/`, `%` has them percent-encoded. Nil: none of these.
    public init?(url: String) {
        guard let mark = url.firstRange(of: "://") else { return nil }
        let scheme = url[..<mark.lowerBound].split(separator: "+", omittingEmptySubsequences: false)
        var rest = url[mark.upperBound...]
        guard let base = scheme.first, base == "redis" || base == "rediss", scheme.count <= 2 else { return nil }
        var user: String?
        var password: String?
        if let at = rest.lastIndex(of: "@") {
            let parts = rest[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            let words = parts.compactMap { Self.decoded($0) }
            guard words.count == parts.count else { return nil }
            user = words[0].isEmpty ? nil : words[0]
            password = words.count > 1 ? words[1] : nil
            rest = rest[rest.index(after: at)...]
        }
        let path = rest.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let isSentinel = scheme.last == "sentinel"
        let hosts = path.first?.split(separator: ",", omittingEmptySubsequences: false).map(String.init) ?? []
        let addresses = hosts.compactMap { RedisAddress($0, defaultPort: isSentinel ? 26_379 : 6379) }
        guard !addresses.isEmpty, addresses.count == hosts.count else { return nil }
        let names = path.count > 1 ? path[1].split(separator: ",").map(String.init) : []
        switch (scheme.count == 1 ? "" : String(scheme[1]), names.isEmpty) {
        case ("", true): self.init(.shards(RedisShard.even(addresses.map { .address($0) })))
        case ("cluster", true): self.init(.cluster(seeds: addresses))
        case ("sentinel", false):
            self.init(.shards(RedisShard.even(names.map { .sentinel(master: $0, sentinels: addresses) })))
        default: return nil
        }
        username = user
        self.password = password
        if base == "rediss" { tls = RedisTLS() }
    }

    private static func decoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16), rest.count >= 2 else {
                return nil
            }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(validating: bytes, as: UTF8.self)
    }
}
