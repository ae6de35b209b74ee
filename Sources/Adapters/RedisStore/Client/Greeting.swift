/// What is said first on every connection, and whether the answers will do. AUTH comes first of all: without it a
/// server takes nothing else, the scripts included.
struct Greeting: Sendable {
    /// What the far side must be.
    enum Wanted: Sendable, Equatable {
        case master
        /// A node of a cluster, which says by itself what it does not serve.
        case node
        case sentinel(master: String)
    }

    enum Verdict: Equatable {
        /// `run` names this life of the server's process.
        case ready(run: String)
        case address(RedisAddress)
        /// Not now.
        case refused(String)
        /// Not before somebody has changed a setting, here or there.
        case unfit(String)
    }

    let wanted: Wanted
    let username: String?
    let password: String?
    let scripts: [RedisScript]
    /// Whether the server may drop keys by itself when its memory is full.
    var mayEvict = true

    /// Scripts that read the clock and then write need replication by effects, which is the rule from here on.
    static let oldestVersion = 5

    /// The commands, to be sent in one go.
    var commands: [RedisArguments] {
        var all: [RedisArguments] = []
        if let password {
            all.append(username.map { RedisArguments("AUTH", $0, password) } ?? RedisArguments("AUTH", password))
        }
        switch wanted {
        case .sentinel(let master): all.append(RedisArguments("SENTINEL", "get-master-addr-by-name", master))
        case .master, .node:
            all.append(RedisArguments("ROLE"))
            all.append(RedisArguments("INFO", "server"))
            all.append(RedisArguments("INFO", "memory"))
            all += scripts.map { RedisArguments("SCRIPT", "LOAD", $0.body) }
        }
        return all
    }

    func judge(_ replies: [RedisReply]) -> Verdict {
        guard replies.count == commands.count else { return .refused("it hung up while we logged in") }
        var rest = replies[...]
        if password != nil, case .error(let text)? = rest.popFirst() { return Self.verdict(onError: text) }
        let error = rest.lazy.compactMap { if case .error(let text) = $0 { text } else { nil } }.first
        if case .sentinel(let master) = wanted {
            return error.map(Self.verdict(onError:)) ?? Self.verdict(onMaster: master, rest.first)
        }
        let (server, memory) = (rest[rest.startIndex + 1].text, rest[rest.startIndex + 2].text)
        if let server, let memory, let why = unfit(Self.fields(server), Self.fields(memory)) { return .unfit(why) }
        if let error { return Self.verdict(onError: error) }
        if wanted == .master, rest.first?.elements?.first?.text != "master" { return .refused("it is a replica") }
        guard let server, let run = Self.fields(server)["run_id"], !run.isEmpty else {
            return .refused("it does not say its run_id")
        }
        return .ready(run: String(run))
    }

    /// Wrong credentials and missing rights stay wrong; a server that loads its file does not.
    private static func verdict(onError text: String) -> Verdict {
        let settings = ["WRONGPASS", "NOAUTH", "NOPERM", "ERR invalid password", "ERR Client sent AUTH", "ERR AUTH"]
        return settings.contains { text.hasPrefix($0) } ? .unfit("it does not let us in: \(text)") : .refused(text)
    }

    private static func verdict(onMaster master: String, _ reply: RedisReply?) -> Verdict {
        guard let parts = reply?.elements, parts.count == 2, let host = parts[0].text, !host.isEmpty,
            let port = parts[1].number.flatMap({ Int(exactly: $0) }), (1...65_535).contains(port)
        else { return .refused("the sentinel knows no master \(master)") }
        return .address(RedisAddress(host: host, port: port))
    }

    /// Why the server will not do as it is set up; nil: it will.
    private func unfit(_ server: [Substring: Substring], _ memory: [Substring: Substring]) -> String? {
        let version = server["redis_version"] ?? "unknown"
        guard let major = version.split(separator: ".").first.flatMap({ Int($0) }), major >= Self.oldestVersion else {
            return "its version is \(version), and \(Self.oldestVersion) or later is needed"
        }
        switch (wanted, server["redis_mode"]) {
        case (.master, "cluster"): return "it is part of a cluster: write redis+cluster://"
        case (.node, "standalone"): return "it is not part of a cluster: write redis:// instead of redis+cluster://"
        case (_, "sentinel"): return "it is a sentinel: write redis+sentinel://HOST/MASTER"
        default: break
        }
        let policy = memory["maxmemory_policy"] ?? "unknown"
        guard mayEvict || policy == "noeviction" else {
            return "its maxmemory-policy is \(policy), and who is online must not be evicted: set noeviction"
        }
        return nil
    }

    /// The lines `name:value` of an INFO.
    private static func fields(_ info: String) -> [Substring: Substring] {
        var fields: [Substring: Substring] = [:]
        for line in info.split(whereSeparator: \.isNewline) {
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields[line[..<colon]] = line[line.index(after: colon)...]
        }
        return fields
    }
}
