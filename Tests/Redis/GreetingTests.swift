import Testing

@testable import RedisStore

/// What is said first on a connection, and what becomes of the answers.
@Suite struct GreetingTests {
    private let script = RedisScript("s", "return 1")

    private func greeting(_ wanted: Greeting.Wanted = .master, mayEvict: Bool = false) -> Greeting {
        Greeting(wanted: wanted, username: nil, password: "pw", scripts: [script], mayEvict: mayEvict)
    }

    private func bytes(_ text: String) -> RedisReply { .bytes(Array(text.utf8)) }

    private func replies(
        auth: RedisReply = .status("OK"), role: String = "master", version: String = "7.0.15",
        mode: String = "standalone", policy: String = "noeviction", run: String = "abc", script: RedisReply? = nil
    ) -> [RedisReply] {
        [
            auth, .array([bytes(role), .integer(0)]),
            bytes("# Server\r\nredis_version:\(version)\r\nredis_mode:\(mode)\r\nrun_id:\(run)\r\n"),
            bytes("# Memory\r\nused_memory:1\r\nmaxmemory_policy:\(policy)\r\n"), script ?? bytes(self.script.sha),
        ]
    }

    @Test func theAccountComesBeforeEverythingElse() {
        #expect(
            greeting().commands == [
                RedisArguments("AUTH", "pw"), RedisArguments("ROLE"), RedisArguments("INFO", "server"),
                RedisArguments("INFO", "memory"), RedisArguments("SCRIPT", "LOAD", "return 1"),
            ])
        let user = Greeting(wanted: .node, username: "u", password: "pw", scripts: [])
        #expect(user.commands.first == RedisArguments("AUTH", "u", "pw"))
        let nobody = Greeting(wanted: .node, username: nil, password: nil, scripts: [])
        #expect(nobody.commands.first == RedisArguments("ROLE"))
    }

    @Test func aMasterIsReadyAndAReplicaIsNot() {
        #expect(greeting().judge(replies()) == .ready(run: "abc"))
        #expect(greeting().judge(replies(role: "slave")) == .refused("it is a replica"))
        #expect(greeting(.node).judge(replies(role: "slave", mode: "cluster")) == .ready(run: "abc"))
        #expect(greeting().judge(replies(run: "")) == .refused("it does not say its run_id"))
        #expect(greeting().judge(Array(replies().dropLast())) == .refused("it hung up while we logged in"))
    }

    /// What time mends is refused; what somebody has to change is unfit.
    @Test func mistakesAreNotTakenForOutages() {
        func judge(_ replies: [RedisReply]) -> String {
            switch greeting().judge(replies) {
            case .refused(let why): "refused: \(why)"
            case .unfit(let why): "unfit: \(why)"
            case .ready, .address: "taken"
            }
        }
        #expect(judge(replies(auth: .error("LOADING it loads"))) == "refused: LOADING it loads")
        #expect(judge(replies(script: .error("LOADING it loads"))) == "refused: LOADING it loads")
        for text in ["WRONGPASS no", "NOAUTH no", "NOPERM no", "ERR invalid password", "ERR Client sent AUTH, but"] {
            #expect(judge(replies(auth: .error(text))) == "unfit: it does not let us in: \(text)")
        }
        let denied = RedisReply.error("NOPERM this user has no permissions to run the 'script' command")
        #expect(judge(replies(script: denied)).hasPrefix("unfit: it does not let us in: NOPERM"))
    }

    @Test(
        arguments: [
            ("4.0.9", "standalone", "noeviction", "its version is 4.0.9"), ("5.0.0", "standalone", "noeviction", nil),
            ("next", "standalone", "noeviction", "its version is next"), ("10.1", "standalone", "noeviction", nil),
            ("7.0.0", "cluster", "noeviction", "write redis+cluster://"),
            ("7.0.0", "sentinel", "noeviction", "write redis+sentinel://HOST/MASTER"),
            ("7.0.0", "standalone", "allkeys-lru", "its maxmemory-policy is allkeys-lru"),
            ("7.0.0", "standalone", "volatile-ttl", "its maxmemory-policy is volatile-ttl"),
        ])
    func serversThatWillNotDo(version: String, mode: String, policy: String, why: String?) {
        let verdict = greeting().judge(replies(version: version, mode: mode, policy: policy))
        guard let why else {
            #expect(verdict == .ready(run: "abc"))
            return
        }
        guard case .unfit(let said) = verdict else {
            Issue.record("\(verdict)")
            return
        }
        #expect(said.contains(why), "\(said)")
    }

    @Test func aCacheMayBeEvictedAndANodeIsPartOfACluster() {
        #expect(greeting(mayEvict: true).judge(replies(policy: "allkeys-lru")) == .ready(run: "abc"))
        let alone = greeting(.node).judge(replies())
        #expect(alone == .unfit("it is not part of a cluster: write redis:// instead of redis+cluster://"))
    }

    @Test func sentinelsNameTheMaster() {
        let sentinel = Greeting(wanted: .sentinel(master: "m"), username: nil, password: nil, scripts: [])
        let found = RedisReply.array([bytes("10.1.1.1"), bytes("6379")])
        #expect(sentinel.judge([found]) == .address(RedisAddress(host: "10.1.1.1", port: 6379)))
        #expect(sentinel.judge([.null]) == .refused("the sentinel knows no master m"))
        #expect(sentinel.judge([.error("NOAUTH no")]) == .unfit("it does not let us in: NOAUTH no"))
    }
}
