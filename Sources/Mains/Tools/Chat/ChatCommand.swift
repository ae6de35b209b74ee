import ArgumentParser
import Foundation
import Identity
import MartletClient
import NIOSSL

/// `martlet chat`: talk from a terminal, or from a script through pipes.
public struct ChatCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "chat", abstract: "Chat in the terminal.",
        discussion: """
            With `martlet up` running in this folder, `martlet chat --user alice --to bob` is all it takes: a token is
            issued with the demo app's key. Marks in front of your messages: … sending, ✓ accepted, ✓✓ delivered,
            coloured when read. /help lists the commands.

            When input or output is no terminal it speaks in plain lines, a keyword and then fields, the text last:
            online, offline, message, history, sending, accepted, stored, delivered, read, failed, unread, presence,
            who, notice, event, answer, error. It ends when its input ends and everything typed is accepted.

            Exit code 0: all is well; 1: a message was not accepted; 2: it could not log in, or was logged out.
            """)

    @Option(help: "Who you are.")
    public var user: String
    @Option(help: "Whom you talk to first.")
    public var to: String?
    @OptionGroup var connection: ConnectionOptions
    @Option(help: "A token that the app's server issued; else one is issued with the app's key.")
    public var token: String?
    @Option(help: "Log in as a demo user with the password that `martlet up` printed.")
    public var password: String?
    @Option(help: "Where the HTTP API listens, for --password.")
    public var http = "127.0.0.1:7780"
    @Option(help: "This installation's name: stable, one session each.")
    public var device = "martlet-chat"
    @Flag(help: "Use TLS, for --http too.")
    public var tls = false
    @Option(help: "A PEM file with the authorities to trust instead of the system's; implies --tls.")
    public var tlsCa: String?
    @Option(help: "Seconds to wait for the last messages when a pipe ends.")
    public var wait = 15

    public init() {}

    public func validate() throws {
        guard NameRule.isUser(user) else { throw ValidationError("--user: \(user) cannot be a user's name") }
        if let to {
            guard NameRule.isUser(to), to != user else { throw ValidationError("--to: \(to) is nobody to talk to") }
        }
        guard NameRule.isUser(device) else { throw ValidationError("--device: 1 to 64 bytes without spaces") }
        guard token == nil || password == nil else { throw ValidationError("--token or --password, not both") }
        guard (0...3_600).contains(wait) else { throw ValidationError("--wait is 0 to 3600 seconds") }
    }

    public func run() async throws {
        var code: Int32 = 0
        try await exitingOnToolError { code = try await chat(Terminal()) { Console.write($0, to: STDOUT_FILENO) } }
        if code != 0 { throw ExitCode(code) }
    }

    /// Runs until the input ends, the user quits or the server says no. Returns the exit code.
    func chat(_ terminal: Terminal, write: @escaping @Sendable (String) -> Void) async throws -> Int32 {
        let servers = try connection.servers()
        let tls = try tlsConfiguration()
        var config = ClientConfig(token: try await userToken(tls), deviceID: device)
        config.client = "martlet-chat/0.1"
        config.firstPage = 20
        let client: ChatClient
        do { client = try ChatClient(config: config, servers: servers, tls: tls) } catch {
            throw ToolError("TLS cannot be set up: \(error)")
        }
        let desk = ChatDesk(
            client: client, me: user, peer: to, interactive: terminal.isInteractive, size: terminal.size, write: write)
        terminal.makeRaw()
        defer {
            terminal.restore()
            if terminal.isInteractive { write("\n") }
        }
        let signals = ChatSignals(terminal: terminal, desk: desk)
        defer { signals.cancel() }
        await desk.begin()
        client.start()
        await loops(client, desk, terminal.chunks(), interactive: terminal.isInteractive)
        return await desk.exitCode ?? 0
    }

    private func loops(_ client: ChatClient, _ desk: ChatDesk, _ chunks: InputChunks, interactive: Bool) async {
        let wait = wait
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                if !interactive { await desk.untilReady() }
                for await chunk in chunks.stream {
                    let goesOn = await desk.typed(chunk)
                    chunks.done()
                    guard goesOn else { return }
                }
                await desk.inputClosed()
                guard (try? await Task.sleep(for: .seconds(wait))) != nil else { return }
                await desk.giveUp()
            }
            group.addTask {
                // Without the User service there is no sync; input is not held back for ever.
                guard (try? await Task.sleep(for: .seconds(10))) != nil else { return }
                await desk.beReady()
            }
            for await notice in client.events {
                guard await desk.told(notice) else { break }
            }
            await desk.finish(0)
            group.cancelAll()
        }
    }

    private func userToken(_ tls: TLSConfiguration?) async throws -> String {
        if let token { return token }
        if let password {
            guard let address = ServerAddress(http) else { throw ToolError("--http: \(http) is not host:port") }
            return try await DemoLogin.token(at: address, user: user, password: password, tls: tls)
        }
        do {
            return try connection.issuer().issue(userID: user, lifetimeSeconds: 30 * 86_400, nowMS: Clocks.unixMS)
        } catch let error as ToolError {
            throw ToolError("\(error); or give --token or --password")
        }
    }

    private func tlsConfiguration() throws -> TLSConfiguration? {
        guard tls || tlsCa != nil else { return nil }
        var configuration = TLSConfiguration.makeClientConfiguration()
        if let tlsCa { configuration.trustRoots = .file(tlsCa) }
        return configuration
    }
}

/// SIGTERM and SIGHUP end the session cleanly, SIGWINCH tells the new size. The sources end with the session.
private final class ChatSignals {
    private let sources: [any DispatchSourceSignal]

    init(terminal: Terminal, desk: ChatDesk) {
        let queue = DispatchQueue(label: "martlet.chat.signals")
        func source(_ number: Int32, _ body: @escaping @Sendable () async -> Void) -> any DispatchSourceSignal {
            let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
            source.setEventHandler { Task(operation: body) }
            source.resume()
            return source
        }
        for number in [SIGTERM, SIGHUP] { signal(number, SIG_IGN) }
        sources = [
            source(SIGTERM) { await desk.finish(0) }, source(SIGHUP) { await desk.finish(0) },
            source(SIGWINCH) { await desk.resized(terminal.size) },
        ]
    }

    func cancel() {
        for source in sources { source.cancel() }
        for number in [SIGTERM, SIGHUP] { signal(number, SIG_DFL) }
    }
}
