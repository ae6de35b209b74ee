import ArgumentParser

/// `martlet bench chat`
struct ChatBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "chat", abstract: "Durable one-to-one messages, client to client: rate, CPU and latency.",
        discussion: """
            Two connections per pair; one side sends, the other receives. First as fast as the server takes them, with
            --depth messages of each pair under way: messages_per_s and CPU. Then at half of that rate on a fixed
            schedule: latency from the moment a message was due. A message counts when its sender was told that it is
            stored and its receiver has it. Exit code 0: measured; 1: measured, with errors; 2: could not start.

            With --protocol the same is done to another server, for comparison: to an MQTT 3.1.1 broker with QoS 1, or
            to an XMPP server over plain TCP, whose users bench-a0, bench-b0 ... must exist. `make bench-peers` does all
            of it; Docs/benchmarks.md says what an acknowledgement means there.
            """)

    enum Name: String, ExpressibleByArgument, CaseIterable { case martlet, mqtt, xmpp }

    @Option(help: "Pairs of users, 1 to 9500.")
    var pairs = 1000
    @Option(help: "Bytes of a message's text, 1 to 32768.")
    var bytes = 100
    @Option(help: "Seconds that each of the two phases is measured.")
    var seconds = 10
    @Option(help: "Messages of one pair under way in the first phase, 1 to 64.")
    var depth = 8
    @Option(name: .customLong("protocol"), help: "What the server speaks: martlet, mqtt or xmpp.")
    var name = Name.martlet
    @Option(help: "XMPP: the server's domain.")
    var domain = "localhost"
    @Option(help: "XMPP: every user's password.")
    var password = "secret"
    @Flag(help: "XMPP: the server archives messages; one that it passes on without its archive's id is an error.")
    var archived = false
    @OptionGroup var options: BenchOptions

    init() {}

    func validate() throws {
        guard (1...9500).contains(pairs) else { throw ValidationError("--pairs must be between 1 and 9500") }
        guard (1...32_768).contains(bytes) else { throw ValidationError("--bytes must be between 1 and 32768") }
        guard (1...3600).contains(seconds) else { throw ValidationError("--seconds must be between 1 and 3600") }
        guard (1...64).contains(depth) else { throw ValidationError("--depth must be between 1 and 64") }
        guard name != .mqtt || bytes >= MQTTChat.leastBytes else {
            throw ValidationError("--bytes must be at least \(MQTTChat.leastBytes) with mqtt: they carry the number")
        }
    }

    func run() async throws {
        try options.tell {
            let traffic: any ChatTraffic =
                switch name {
                case .martlet: MartletChat(bytes: bytes, accessPath: options.access)
                case .mqtt: MQTTChat(bytes: bytes)
                case .xmpp: XMPPChat(bytes: bytes, domain: domain, password: password, archived: archived)
                }
            let plan = ChatPlan(pairs: pairs, bytes: bytes, seconds: seconds, depth: depth)
            return try ChatRun(plan, traffic, server: options.server, pids: options.pid).run()
        }
    }
}
