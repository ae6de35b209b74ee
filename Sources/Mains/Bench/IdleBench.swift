import ArgumentParser

/// `martlet bench idle`
struct IdleBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "idle", abstract: "Authenticated connections that say nothing: memory of each, logins a second.",
        discussion: """
            Logs in --connections users, waits, and compares the server's private memory and the kernel's with before.
            Client addresses 127.0.0.2, 127.0.0.3 ... are used for a server on 127.x.x.x, so that ports suffice. Start
            the server freshly: memory that it freed earlier would be used again and counted too low.
            Exit code 0: measured; 1: measured, with errors; 2: could not start.
            """)

    @Option(help: "Connections, 1 to 19000.")
    var connections = 5000
    @Flag(help: "WebSocket instead of TCP; give its port with --server.")
    var websocket = false
    @OptionGroup var options: BenchOptions

    init() {}

    func validate() throws {
        guard (1...19_000).contains(connections) else {
            throw ValidationError("--connections must be between 1 and 19000 (start several for more)")
        }
        guard !options.pid.isEmpty else { throw ValidationError("--pid: which process is the server?") }
    }

    func run() async throws {
        try options.tell {
            try IdleRun(connections: connections, webSocket: websocket, options: options).run()
        }
    }
}
