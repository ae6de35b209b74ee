import Glibc
import NIOCore
import Wire

/// Who uses a fleet's connections once they are logged in.
protocol FleetUser: AnyObject {
    /// A frame that the fleet does not answer itself. The bytes are lent for the call.
    func received(_ type: FrameType, _ frame: UnsafeRawBufferPointer, on link: Link)
    /// A connection ended that was logged in.
    func ended(_ link: Link, why: String)
}

/// All connections of a bench on one thread: opens and logs in, cuts frames, answers heartbeats, acknowledges pushes as
/// WELCOME asks, and sends what a turn gathered with one system call per connection.
final class Fleet {
    /// Handshakes under way at once.
    static let opening = 100
    /// Without a login for this long, opening has failed.
    static let stuckMicros: UInt64 = 20_000_000
    static let readBytes = 256 * 1024

    let address: ServerAddress
    let links: [Link]
    weak var user: (any FleetUser)?
    /// The time of this turn.
    private(set) var now = Monotonic.micros()
    /// Server time minus our clock, in milliseconds, as of the first login.
    private(set) var serverOffsetMS: UInt64 = 0
    var acks = PushAcks()
    private let poller: Poller
    private let scratch: UnsafeMutableRawBufferPointer
    private var dirty: [Link] = []
    private var readyCount = 0
    private var openingCount = 0
    private var heartbeatMicros: UInt64 = 30_000_000
    private var nextSweepMicros: UInt64 = 0
    private var failure: BenchError?
    private var isOpening = false

    init(address: ServerAddress, users: [String], tokens: [String], webSocket: Bool) throws(BenchError) {
        self.address = address
        poller = try Poller()
        scratch = .allocate(byteCount: Self.readBytes, alignment: 16)
        links = zip(users, tokens).enumerated().map { index, login in
            Link(index: index, user: login.0, token: login.1, webSocket: webSocket)
        }
    }

    deinit { scratch.deallocate() }

    /// Unix milliseconds by the server's clock.
    var serverTimeMS: UInt64 { now / 1000 &+ serverOffsetMS }

    // MARK: - Opening and closing

    /// Connects and logs in everybody; `opening` at a time.
    ///
    /// - Throws: `BenchError` at the first that fails.
    func open() throws {
        try ServerAddress.raiseFileLimit(for: links.count)
        isOpening = true
        defer { isOpening = false }
        var next = 0
        var lastReady = 0
        var lastProgress = Monotonic.micros()
        while readyCount < links.count {
            while next < links.count, openingCount < Self.opening {
                try connect(links[next])
                next += 1
            }
            turn(until: now + 100_000)
            if let failure { throw failure }
            if readyCount > lastReady {
                lastReady = readyCount
                lastProgress = now
            } else if now > lastProgress + Self.stuckMicros {
                throw BenchError("\(address.text) stopped answering after \(readyCount) logins")
            }
        }
    }

    private func connect(_ link: Link) throws(BenchError) {
        link.socket = try address.connect(number: link.index)
        link.stage = .connecting
        openingCount += 1
        poller.add(link.socket, token: link.index, writable: true)
    }

    /// Says goodbye and closes everything.
    func close() {
        for link in links where link.stage == .ready {
            link.append(.bye)
            write(link)
        }
        for link in links { link.end() }
    }

    /// Ends a connection: before its login this fails the opening, after it the user is told.
    func end(_ link: Link, _ why: String) {
        guard link.stage != .closed, link.stage != .waiting else { return }
        let wasReady = link.stage == .ready
        link.end()
        if wasReady {
            readyCount -= 1
            if isOpening, failure == nil { failure = BenchError("\(link.user) lost its connection: \(why)") }
            user?.ended(link, why: why)
        } else {
            openingCount -= 1
            if failure == nil { failure = BenchError("cannot log in at \(address.text): \(why)") }
        }
    }

    // MARK: - Turns

    /// Handles what is ready, waiting for it at most until then, and sends what came of it.
    func turn(until deadline: UInt64) {
        let wait = deadline > now ? min(Int32(truncatingIfNeeded: (deadline - now + 999) / 1000), 1000) : 0
        flush()
        let count = poller.wait(timeoutMS: acks.isEmpty ? wait : min(wait, PushAcks.tickMS))
        now = Monotonic.micros()
        for index in 0..<count {
            let ready = poller.ready(at: index)
            let link = links[ready.token]
            if link.stage == .connecting { connected(link, failed: ready.failed) }
            if ready.writable, link.blocked { unblock(link) }
            if ready.readable || ready.failed, link.socket >= 0 { read(link) }
        }
        acks.due(now) { link in
            link.appendPushAck()
            touch(link)
        }
        if now >= nextSweepMicros { sweep() }
        flush()
    }

    /// The link has something to send.
    func touch(_ link: Link) {
        guard !link.dirty else { return }
        link.dirty = true
        dirty.append(link)
    }

    private func flush() {
        guard !dirty.isEmpty else { return }
        for link in dirty {
            link.dirty = false
            if !link.blocked { write(link) }
        }
        dirty.removeAll(keepingCapacity: true)
    }

    private func write(_ link: Link) {
        guard link.socket >= 0, !link.out.isEmpty else { return }
        let sent = link.out.withUnsafeBytes { send(link.socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        link.sentMicros = now
        if sent == link.out.count { return link.out.removeAll(keepingCapacity: link.stage == .ready) }
        guard sent >= 0 || errno == EAGAIN || errno == EINTR else { return end(link, ServerAddress.lastError) }
        link.out.removeFirst(max(0, sent))
        link.blocked = true
        poller.change(link.socket, token: link.index, writable: true)
    }

    private func unblock(_ link: Link) {
        guard link.socket >= 0 else { return }
        link.blocked = false
        poller.change(link.socket, token: link.index, writable: false)
        touch(link)
    }

    /// Once a second: PING where nothing was sent for half a period.
    private func sweep() {
        nextSweepMicros = now + 1_000_000
        for link in links where link.stage == .ready && link.sentMicros + heartbeatMicros / 2 < now {
            link.append(.ping)
            touch(link)
        }
    }

    // MARK: - Reading

    private func read(_ link: Link) {
        let count = recv(link.socket, scratch.baseAddress, scratch.count, 0)
        guard count > 0 else {
            if count == 0 { return end(link, "the server closed the connection") }
            if errno != EAGAIN, errno != EINTR {
                end(link, "\(ServerAddress.lastError); is `martlet up` running there?")
            }
            return
        }
        if link.partial.isEmpty {
            let bytes = UnsafeRawBufferPointer(rebasing: scratch[..<count])
            let used = parse(bytes, link)
            if used < count, link.socket >= 0 { link.partial = Array(bytes[used...]) }
        } else {
            var bytes = link.partial
            link.partial = []
            bytes.append(contentsOf: scratch[..<count])
            let used = bytes.withUnsafeBytes { parse($0, link) }
            if link.socket >= 0 { link.partial = Array(bytes[used...]) }
        }
    }

    /// Handles the whole frames; how many bytes those were.
    private func parse(_ bytes: UnsafeRawBufferPointer, _ link: Link) -> Int {
        var at = 0
        if link.stage == .upgrading {
            guard let end = upgraded(bytes, link) else { return 0 }
            at = end
        }
        do {
            while link.socket >= 0, let cut = try FrameCutter.next(bytes, at: at, webSocket: link.webSocket) {
                let payload = UnsafeRawBufferPointer(rebasing: bytes[cut.start..<cut.end])
                switch cut.kind {
                case .frame: frame(payload, link)
                case .webSocketPing:
                    link.appendMasked(opcode: 10, Array(payload))
                    touch(link)
                case .webSocketClose: end(link, "the server closed the connection")
                case .ignored: break
                }
                at = cut.end
            }
        } catch {
            end(link, "\(error)")
        }
        return at
    }

    private func frame(_ frame: UnsafeRawBufferPointer, _ link: Link) {
        guard let type = FrameType(rawValue: frame[0]) else { return }
        switch type {
        case .ping:
            link.append(.pong)
            touch(link)
        case .pong: break
        case .kick:
            let kick = try? Kick(serializedBytes: Array(frame.dropFirst()))
            end(link, "kicked: \(kick?.reason ?? "") \(kick?.message ?? "")")
        case .error:
            let failure = try? Failure(serializedBytes: Array(frame.dropFirst()))
            let hint = link.stage == .ready ? "" : "; is --access the file of its data folder?"
            end(link, "\(failure?.reason ?? "") (\(failure?.message ?? ""))\(hint)")
        case .welcome where link.stage == .greeting: welcomed(frame, link)
        case .authenticated where link.stage == .authenticating: authenticated(frame, link)
        default: if link.stage == .ready { user?.received(type, frame, on: link) }
        }
    }
}

// MARK: - Handshake

extension Fleet {
    private func connected(_ link: Link, failed: Bool) {
        var code: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(link.socket, SOL_SOCKET, SO_ERROR, &code, &size)
        guard code == 0, !failed else {
            return end(link, "\(String(cString: strerror(code))); is `martlet up` running there?")
        }
        poller.change(link.socket, token: link.index, writable: false)
        link.stage = link.webSocket ? .upgrading : .greeting
        link.webSocket ? link.append(upgradeTo: address.host) : greet(link)
        touch(link)
    }

    private func greet(_ link: Link) {
        var hello = Hello()
        hello.version = 1
        hello.client = "martlet-bench"
        link.append(.hello(hello.buffer))
        touch(link)
    }

    /// The end of the HTTP answer; nil when it is not all there or is no upgrade.
    private func upgraded(_ bytes: UnsafeRawBufferPointer, _ link: Link) -> Int? {
        let mark = Array("\r\n\r\n".utf8)
        guard let at = bytes.indices.first(where: { bytes[$0...].starts(with: mark) }) else { return nil }
        guard bytes.starts(with: "HTTP/1.1 101".utf8) else {
            end(link, "no WebSocket there: is this the port for WebSocket clients?")
            return nil
        }
        link.stage = .greeting
        greet(link)
        return at + mark.count
    }

    private func welcomed(_ frame: UnsafeRawBufferPointer, _ link: Link) {
        guard let welcome = try? Welcome(serializedBytes: Array(frame.dropFirst())) else {
            return end(link, "the server's WELCOME cannot be read")
        }
        heartbeatMicros = UInt64(max(1000, welcome.heartbeatMs)) * 1000
        acks.every = max(1, welcome.pushAckEvery)
        acks.delayMicros = UInt64(welcome.pushAckMs) * 1000
        var authenticate = Authenticate()
        authenticate.token = link.token
        authenticate.deviceID = "bench"
        authenticate.platform = "bench"
        link.append(.authenticate(authenticate.buffer))
        link.stage = .authenticating
        touch(link)
    }

    private func authenticated(_ frame: UnsafeRawBufferPointer, _ link: Link) {
        guard let session = try? Authenticated(serializedBytes: Array(frame.dropFirst())) else {
            return end(link, "the server's AUTHENTICATED cannot be read")
        }
        if serverOffsetMS == 0 { serverOffsetMS = session.serverTimeMs &- now / 1000 }
        link.stage = .ready
        link.sentMicros = now
        openingCount -= 1
        readyCount += 1
    }
}
