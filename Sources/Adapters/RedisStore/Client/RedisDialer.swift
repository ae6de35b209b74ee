import NIOCore
import NIOPosix
import NIOSSL

/// Makes connections: TCP, TLS where it is wanted, then the greeting.
///
/// Isolation: its event loop.
final class RedisDialer {
    /// A connection that has been greeted, or why there is none.
    enum Outcome {
        case ready(any Channel, run: String)
        case address(RedisAddress)
        /// `unfit`: not before somebody has changed a setting.
        case failed(String, unfit: Bool)
    }

    /// What a connection says after its greeting.
    struct Listener {
        let received: ([RedisReply]) -> Void
        let ended: (String) -> Void
    }

    private let loop: any EventLoop
    private let config: RedisConfig
    private let scripts: [RedisScript]
    private let tls: NIOSSLContext?

    /// - Throws: NIOSSL's error, when the files of the certificates cannot be used.
    init(loop: any EventLoop, config: RedisConfig, scripts: [RedisScript]) throws {
        self.loop = loop
        self.config = config
        self.scripts = scripts
        tls = try config.tls.map { try Self.context($0) }
    }

    private static func context(_ tls: RedisTLS) throws -> NIOSSLContext {
        var settings = TLSConfiguration.makeClientConfiguration()
        if let file = tls.authorities { settings.trustRoots = .file(file) }
        if let file = tls.certificate {
            settings.certificateChain = try NIOSSLCertificate.fromPEMFile(file).map { .certificate($0) }
        }
        if let file = tls.key { settings.privateKey = .privateKey(try NIOSSLPrivateKey(file: file, format: .pem)) }
        return try NIOSSLContext(configuration: settings)
    }

    /// Connects and greets; `done` is called once, on the loop. `made` gets the channel as soon as there is one, so
    /// that it can be closed when it takes too long.
    func dial(
        _ address: RedisAddress, _ wanted: Greeting.Wanted, listener: Listener,
        made: @escaping (any Channel) -> Void, done: @escaping (Outcome) -> Void
    ) {
        let greeting: Greeting
        if case .sentinel = wanted {
            greeting = Greeting(wanted: wanted, username: nil, password: config.sentinelPassword, scripts: [])
        } else {
            greeting = Greeting(
                wanted: wanted, username: config.username, password: config.password, scripts: scripts,
                mayEvict: config.mayEvict)
        }
        let talk = Talk(greeting: greeting, listener: listener, done: done)
        let this = NIOLoopBound((talk: talk, tls: tls, made: made), eventLoop: loop)
        let name = address.host
        let patience = TimeAmount.milliseconds(Int64(config.greetingTimeoutMS))
        ClientBootstrap(group: loop)
            .connectTimeout(.milliseconds(Int64(config.connectTimeoutMS)))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let (talk, tls, _) = this.value
                    if let tls {
                        let isName = (try? SocketAddress(ipAddress: name, port: 0)) == nil
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: tls, serverHostname: isName ? name : nil))
                    }
                    try channel.pipeline.syncOperations.addHandler(
                        RedisChannelHandler(received: { talk.received($0) }, ended: { talk.ended($0) }))
                }
            }
            .connect(host: address.host, port: address.port)
            .whenComplete { result in
                let (talk, _, made) = this.value
                switch result {
                case .success(let channel):
                    made(channel)
                    talk.begin(channel)
                    channel.eventLoop.scheduleTask(in: patience) { this.value.talk.giveUp() }
                case .failure(let error): talk.ended("\(error)")
                }
            }
    }

    /// The greeting's half of a connection's life, then its listener's, if the greeting ends well.
    private final class Talk {
        private let greeting: Greeting
        private var listener: Listener?
        private var done: ((Outcome) -> Void)?
        private var replies: [RedisReply] = []
        private var channel: (any Channel)?

        init(greeting: Greeting, listener: Listener, done: @escaping (Outcome) -> Void) {
            self.greeting = greeting
            self.listener = listener
            self.done = done
        }

        func begin(_ channel: any Channel) {
            self.channel = channel
            var buffer = channel.allocator.buffer(capacity: 4096)
            for command in greeting.commands { _ = Hiredis.format(command) { buffer.writeBytes($0) } }
            channel.writeAndFlush(buffer, promise: nil)
        }

        func received(_ more: [RedisReply]) {
            guard done != nil else {
                listener?.received(more)
                return
            }
            replies += more
            guard replies.count >= greeting.commands.count, let channel else { return }
            switch greeting.judge(replies) {
            case .ready(let run):
                let done = self.done
                self.done = nil
                done?(.ready(channel, run: run))
            case .address(let address): finish(.address(address))
            case .refused(let why): finish(.failed(why, unfit: false))
            case .unfit(let why): finish(.failed(why, unfit: true))
            }
        }

        /// Whoever is connected and says nothing, a stopped process for one, is left alone.
        func giveUp() { finish(.failed("it did not let us in in time", unfit: false)) }

        func ended(_ why: String) {
            if done == nil {
                listener?.ended(why)
                return
            }
            // Whoever hangs up on strangers has told them why first.
            let said = replies.lazy.compactMap { if case .error(let text) = $0 { text } else { nil } }.first
            finish(.failed(said ?? why, unfit: false))
        }

        /// The connection is of no more use; what becomes of it is nobody's business.
        private func finish(_ outcome: Outcome) {
            guard let done else { return }
            self.done = nil
            listener = nil
            done(outcome)
            channel?.close(promise: nil)
        }
    }
}
