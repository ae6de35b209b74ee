import Machinery
import NIOCore
import NIOPosix
import NIOSSL
import Wire

/// A user's connection to Martlet: connects by itself, sends in order, shows every message once and in order.
/// Bound to one event loop; every method may be called from anywhere and returns at once, except those that await.
public final class ChatClient: Sendable {
    /// What happens, in order. One consumer; while it does not read, the socket is not read either.
    public let events: ClientEvents
    private let loop: any EventLoop
    private let core: NIOLoopBoundBox<ClientCore>

    /// - Parameters:
    ///   - servers: where to connect; the next one is tried when one fails. At least one.
    ///   - tls: nil for plain TCP.
    ///   - group: whose event loop carries the client; the default is the process's shared one.
    public init(
        config: ClientConfig, servers: [ServerAddress], tls: TLSConfiguration? = nil,
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
    ) throws {
        let loop = group.next()
        let context = try tls.map { try NIOSSLContext(configuration: $0) }
        let resume = ResumeReading(loop: loop)
        let made = ClientEvents.Producer.makeSequence(
            elementType: ClientNotice.self, backPressureStrategy: .init(lowWatermark: 64, highWatermark: 512),
            finishOnDeinit: true, delegate: resume)
        var seeds = SystemRandomNumberGenerator()
        let machine = ClientMachine(config: config, seed: seeds.next())
        let core = ClientCore(
            machine: machine, servers: servers, tls: context, loop: loop, source: made.source, firstServer: seeds.next()
        )
        self.loop = loop
        self.core = NIOLoopBoundBox.makeBoxSendingValue(core, eventLoop: loop)
        let box = self.core
        resume.core.withLockedValue { $0 = box }
        events = ClientEvents(sequence: made.sequence)
    }

    /// Connects, and stays connected until `stop`.
    public func start() { tell(.start) }

    /// Says BYE and closes. Messages not accepted by then are reported failed.
    public func stop() { tell(.stop) }

    /// Sends a message; `.accepted`, `.failed` and `.message` notices carry its handle.
    public func send(_ message: OutgoingMessage) { tell(.send(message)) }

    /// The user has read up to `seq`.
    public func markRead(_ conversation: String, upTo seq: UInt64) { tell(.read(conversation: conversation, seq: seq)) }

    /// Presence of these users (at most 500) from now on, as notices.
    public func watchPresence(of users: [String]) { tell(.watch(users)) }

    /// Sync now, for example when the app comes to the foreground.
    public func sync() { tell(.sync) }

    /// Asks any service; throws the service's `Failure`, or `outcome_unknown` when the connection was lost meanwhile.
    public func request(svid: UInt16, method: UInt16, body: [UInt8]) async throws(Failure) -> [UInt8] {
        let core = core
        let loop = loop
        let answer: Answer = await withCheckedContinuation { continuation in
            loop.execute { core.value.request(svid, method, body) { continuation.resume(returning: $0) } }
        }
        switch answer {
        case .ok(let body): return body
        case .failed(let failure): throw failure
        }
    }

    /// A page of history below `beforeSeq` (0: the newest), ascending, at most 200 messages.
    public func history(_ conversation: String, beforeSeq: UInt64, limit: UInt32) async throws(Failure) -> HistoryPage {
        var query = HistoryQuery()
        query.conversation = conversation
        query.beforeSeq = beforeSeq
        query.limit = min(max(limit, 1), 200)
        var request = HistoryRequest()
        request.queries = [query]
        let body = try await self.request(svid: 6, method: 1, body: Array(buffer: request.buffer))
        guard let page = (try? HistoryResponse(serializedBytes: body))?.pages.first else {
            throw Failure(.internalError, "an unreadable history page")
        }
        if page.hasFailure { throw page.failure }
        return page
    }

    /// Who of these users is online, once.
    public func presence(of users: [String]) async throws(Failure) -> [UserPresence] {
        var request = PresenceRequest()
        request.userIds = users
        let body = try await self.request(svid: 5, method: 1, body: Array(buffer: request.buffer))
        guard let response = try? PresenceResponse(serializedBytes: body) else {
            throw Failure(.internalError, "an unreadable presence answer")
        }
        return response.users
    }

    private func tell(_ event: ClientEvent) {
        let core = core
        loop.execute { core.value.tell(event) }
    }
}

/// Where a server listens.
public struct ServerAddress: Equatable, Sendable, CustomStringConvertible {
    public var host: String
    public var port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// Parses "host:port" or "[::1]:port"; nil when it is neither.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
            (1...65_535).contains(port)
        else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard !host.isEmpty else { return nil }
        self.init(host: String(host), port: port)
    }

    /// The name that a certificate must have; nil for an address, which TLS compares with the one connected to.
    public var certificateName: String? { host.contains(where: \.isLetter) && !host.contains(":") ? host : nil }

    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// The notices of a `ChatClient`, for one `for await` loop.
public struct ClientEvents: AsyncSequence, Sendable {
    typealias Producer = NIOAsyncSequenceProducer<
        ClientNotice, NIOAsyncSequenceProducerBackPressureStrategies.HighLowWatermark, ResumeReading
    >
    public typealias Element = ClientNotice
    let sequence: Producer

    public struct Iterator: AsyncIteratorProtocol {
        var inner: Producer.AsyncIterator
        public mutating func next() async -> ClientNotice? { await inner.next() }
    }

    public func makeAsyncIterator() -> Iterator { Iterator(inner: sequence.makeAsyncIterator()) }
}
