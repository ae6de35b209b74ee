/// What is said first on every connection, and whether the answers will do.
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
        case refused(String)
    }

    let wanted: Wanted
    let username: String?
    let password: String?
    let scripts: [RedisScript]

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
            all += scripts.map { RedisArguments("SCRIPT", "LOAD", $0.body) }
        }
        return all
    }

    func judge(_ replies: [RedisReply]) -> Verdict {
        guard replies.count == commands.count else { return .refused("it hung up while we logged in") }
        var rest = replies[...]
        if password != nil, case .error(let text)? = rest.popFirst() { return .refused(text) }
        for case .error(let text) in rest { return .refused(text) }
        if case .sentinel(let master) = wanted {
            guard let parts = rest.first?.elements, parts.count == 2, let host = parts[0].text, !host.isEmpty,
                let port = parts[1].number.flatMap({ Int(exactly: $0) }), (1...65_535).contains(port)
            else { return .refused("the sentinel knows no master \(master)") }
            return .address(RedisAddress(host: host, port: port))
        }
        if wanted == .master, rest.first?.elements?.first?.text != "master" { return .refused("it is a replica") }
        guard let info = rest.dropFirst().first?.text, let run = Self.run(info) else {
            return .refused("it does not say its run_id")
        }
        return .ready(run: run)
    }

    private static func run(_ info: String) -> String? {
        for line in info.split(whereSeparator: \.isNewline) where line.hasPrefix("run_id:") {
            let run = line.dropFirst("run_id:".count)
            return run.isEmpty ? nil : String(run)
        }
        return nil
    }
}
