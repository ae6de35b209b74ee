import HTTPTypes
import Hummingbird
import HummingbirdCore
import HummingbirdTLS
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import RPC

/// The HTTP + JSON server. Read this first: it binds, answers through `APIResponder`, and drains on the way out.
///
/// Isolation: any thread; requests run on the cooperative pool and share only locked tables.
public struct APIServer: Sendable {
    /// The port that was bound.
    public let port: Int

    /// Binds, runs `body` while requests are answered, then stops accepting, lets running requests end and returns.
    /// Nothing outlives the call: the server runs in a child task.
    ///
    /// - Parameter lane: any lane of the process; it keeps the time of calls to roles.
    /// - Throws: `APIStartError` for a web folder, a certificate or an address that cannot be used, and whatever `body`
    ///   throws.
    public static func start<T: Sendable>(
        config: APIConfig, directory: Directory, lane: Lane, logger: Logger,
        while body: @Sendable @escaping (APIServer) async throws -> T
    ) async throws -> T {
        let plain = channel(try responder(config, directory, lane, logger), config)
        guard let files = config.tls else { return try await serve(plain, config, logger, while: body) }
        let secure: TLSChannel<GuardedHTTP>
        do { secure = try TLSChannel(plain, tlsConfiguration: configuration(files)) } catch {
            throw APIStartError.certificate(files.certificatePath, files.keyPath, "\(error)")
        }
        return try await serve(secure, config, logger, while: body)
    }

    private static func configuration(_ files: APITLS) throws -> TLSConfiguration {
        let chain = try NIOSSLCertificate.fromPEMFile(files.certificatePath)
        let key = try NIOSSLPrivateKey(file: files.keyPath, format: .pem)
        return .makeServerConfiguration(
            certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
    }

    private static func serve<T: Sendable>(
        _ channel: some ServerChildChannel, _ config: APIConfig, _ logger: Logger,
        while body: @Sendable @escaping (APIServer) async throws -> T
    ) async throws -> T {
        let bound = AsyncStream<Int>.makeStream(bufferingPolicy: .bufferingNewest(1))
        let http = server(channel, config, logger) { bound.continuation.yield($0) }
        return try await withThrowingTaskGroup(of: T?.self) { tasks in
            tasks.addTask {
                defer { bound.continuation.finish() }
                do {
                    try await http.run()
                } catch  where !Task.isCancelled {
                    throw APIStartError.cannotServe(config.host, config.port, "\(error)")
                }
                return nil
            }
            tasks.addTask {
                var ports = bound.stream.makeAsyncIterator()
                guard let port = await ports.next() else { return nil }
                let result: Result<T, any Error>
                do { result = .success(try await body(APIServer(port: port))) } catch { result = .failure(error) }
                // Fails only when the listener is closed already, which is what is wanted.
                try? await http.shutdownGracefully()
                return try result.get()
            }
            var answer: T?
            while let done = try await tasks.next() { answer = done ?? answer }
            if let answer { return answer }
            throw APIStartError.cannotServe(config.host, config.port, "it ended before it was ready")
        }
    }

    /// Binds and answers requests until the task is cancelled, which cuts requests short; for an end that lets them
    /// finish, use `start` and return from its body.
    ///
    /// - Parameter ready: called once, with the bound port.
    public static func run(
        config: APIConfig, directory: Directory, lane: Lane, logger: Logger, ready: @Sendable @escaping (Int) -> Void
    ) async throws {
        try await start(config: config, directory: directory, lane: lane, logger: logger) { server in
            ready(server.port)
            // Nothing is ever yielded: this waits for cancellation, without a clock.
            for await _ in AsyncStream<Never>.makeStream().stream {}
        }
    }

    private static func responder(
        _ config: APIConfig, _ directory: Directory, _ lane: Lane, _ logger: Logger
    ) throws -> APIResponder {
        let web = try StaticFiles(folder: config.webFolder, limits: config.limits)
        let caller = RoleCaller(directory: directory, lane: lane)
        let roles = RoleClient(caller: caller, directory: directory, timeoutMS: config.limits.roleTimeoutMS)
        return APIResponder(
            methods: APIMethods(config: config, roles: roles, web: web, clock: SystemClock.now), logger: logger)
    }

    private static func channel(_ responder: APIResponder, _ config: APIConfig) -> GuardedHTTP {
        let trusted = config.forwardedHeader.flatMap { HTTPField.Name($0) }
        let http = HTTP1Channel(
            responder: { request, writer, channel in
                let remote = AddressGroup.client(
                    socket: channel.remoteAddress?.ipAddress ?? "", headers: request.headers, trusting: trusted)
                let response = await responder.respond(to: request, remoteAddress: remote)
                try await writer.write(response: response.head, body: response.body)
            },
            configuration: .init(
                httpDecoderConfiguration: .init(
                    maxHeaderFieldSize: APILimits.headerBytes, maxHeaderListSize: 2 * APILimits.headerBytes,
                    maxHeaderFieldCount: APILimits.headers)))
        return GuardedHTTP(
            inner: http, limits: config.limits,
            crowd: Crowd(limits: config.limits, knowsAddresses: config.forwardedHeader == nil))
    }

    private static func server<Channel: ServerChildChannel>(
        _ channel: Channel, _ config: APIConfig, _ logger: Logger, bound: @Sendable @escaping (Int) -> Void
    ) -> Server<Channel> {
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        return Server(
            childChannelSetup: channel,
            configuration: ServerConfiguration(
                address: .hostname(config.host, port: config.port),
                availableConnectionsDelegate: MaximumAvailableConnections(config.limits.connections, logger: quiet)),
            onServerRunning: { bound($0.localAddress?.port ?? config.port) },
            eventLoopGroup: MultiThreadedEventLoopGroup.singleton, logger: quiet)
    }
}

/// Why the server did not start. The text says what to do.
public enum APIStartError: Error, CustomStringConvertible {
    case webFolder(String)
    case cannotServe(String, Int, String)
    case certificate(String, String, String)

    public var description: String {
        switch self {
        case .webFolder(let reason): "the web client's folder cannot be used: \(reason)"
        case .certificate(let certificate, let key, let reason):
            "cannot read certificate \(certificate) with key \(key) (\(reason)); both are PEM files"
        case .cannotServe(let host, let port, let reason):
            "HTTP on \(host):\(port) cannot be served: \(reason); is the port taken? choose another"
        }
    }
}
