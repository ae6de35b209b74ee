import Wire

/// What an error reply means for the command that got it.
enum ErrorReply: Equatable {
    /// The slot lives there now.
    case moved(slot: UInt16, RedisAddress)
    /// This one time, ask there.
    case ask(slot: UInt16, RedisAddress)
    /// Keys of the slot are on their way to another node, or the cluster has no master for it just now.
    case later(String)
    /// The script is not there.
    case noScript
    /// The server is a replica: whoever led us here is behind.
    case notMaster
    /// Certainly not carried out.
    case refused(Failure)
    /// A mistake of ours; perhaps half of a script was carried out.
    case broken(String)

    /// - Parameter from: the server that answered; an address without a host in the reply is on the same one.
    init(_ text: String, from: RedisAddress?) {
        let words = text.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: true)
        let code = words.first.map(String.init) ?? ""
        switch code {
        case "MOVED", "ASK":
            guard words.count >= 3, let slot = UInt16(words[1]), slot < RedisSlot.count,
                let target = Self.target(words[2], from: from)
            else {
                self = .broken(text)
                return
            }
            self = code == "MOVED" ? .moved(slot: slot, target) : .ask(slot: slot, target)
        case "TRYAGAIN", "CLUSTERDOWN": self = .later(text)
        case "NOSCRIPT": self = .noScript
        case "READONLY": self = .notMaster
        case "LOADING", "MASTERDOWN", "BUSY", "NOREPLICAS", "MISCONF":
            self = .refused(Failure(.storeUnavailable, "Redis: \(text)", retryAfterMS: 1000))
        case "OOM": self = .refused(Failure(.storeUnavailable, "Redis has no memory left (maxmemory): \(text)"))
        case "NOAUTH", "WRONGPASS", "NOPERM":
            self = .refused(Failure(.storeUnavailable, "Redis does not let us in: \(text)"))
        default: self = text.contains("OOM command not allowed") ? Self("OOM \(text)", from: from) : .broken(text)
        }
    }

    /// "host:port", "v6:port" or ":port".
    private static func target(_ word: Substring, from: RedisAddress?) -> RedisAddress? {
        guard let colon = word.lastIndex(of: ":"), let port = Int(word[word.index(after: colon)...]),
            (1...65_535).contains(port)
        else { return nil }
        let host = String(word[..<colon])
        if host.isEmpty || host == "?" { return from.map { RedisAddress(host: $0.host, port: port) } }
        return RedisAddress(host: host, port: port)
    }
}
