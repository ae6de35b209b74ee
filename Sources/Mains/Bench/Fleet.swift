import Glibc

/// Who is told what becomes of a fleet's connections.
protocol FleetUser: AnyObject {
    /// A connection ended that was logged in.
    func ended(_ link: Link, why: String)
}

/// All connections of a bench on one thread: opens them, hands what arrives to their dialect, and sends what a turn
/// gathered with one system call per connection.
final class Fleet {
    /// Handshakes under way at once.
    static let opening = 100
    /// Without a login for this long, opening has failed.
    static let stuckMicros: UInt64 = 20_000_000
    static let readBytes = 256 * 1024

    let address: ServerAddress
    let links: [Link]
    let dialect: any Dialect
    weak var user: (any FleetUser)?
    /// The time of this turn.
    private(set) var now = Monotonic.micros()
    private let poller: Poller
    private let scratch: UnsafeMutableRawBufferPointer
    private var dirty: [Link] = []
    private var readyCount = 0
    private var openingCount = 0
    private var nextSweepMicros: UInt64 = 0
    private var failure: BenchError?
    private var isOpening = false

    /// - Parameter tokens: what each user logs in with.
    init(
        address: ServerAddress, users: [String], tokens: [String], webSocket: Bool, dialect: any Dialect
    ) throws(BenchError) {
        self.address = address
        self.dialect = dialect
        poller = try Poller()
        scratch = .allocate(byteCount: Self.readBytes, alignment: 16)
        links = zip(users, tokens).enumerated().map { index, login in
            Link(index: index, user: login.0, token: login.1, webSocket: webSocket)
        }
    }

    deinit { scratch.deallocate() }

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
            dialect.goodbye(link)
            write(link)
        }
        for link in links { link.end() }
    }

    /// The link is logged in: its dialect says so once.
    func ready(_ link: Link) {
        link.stage = .ready
        link.sentMicros = now
        openingCount -= 1
        readyCount += 1
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
        let count = poller.wait(timeoutMS: min(wait, dialect.tickMS ?? wait))
        now = Monotonic.micros()
        for index in 0..<count {
            let ready = poller.ready(at: index)
            let link = links[ready.token]
            if link.stage == .connecting { connected(link, failed: ready.failed) }
            if ready.writable, link.blocked { unblock(link) }
            if ready.readable || ready.failed, link.socket >= 0 { read(link) }
        }
        dialect.tick(self)
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

    /// Once a second: a sign of life where nothing was sent for half a period.
    private func sweep() {
        nextSweepMicros = now + 1_000_000
        for link in links where link.stage == .ready && link.sentMicros + dialect.heartbeatMicros / 2 < now {
            dialect.keepAlive(link)
            touch(link)
        }
    }

    // MARK: - Reading

    private func read(_ link: Link) {
        let count = recv(link.socket, scratch.baseAddress, scratch.count, 0)
        guard count > 0 else {
            if count == 0 { return end(link, "the server closed the connection") }
            if errno != EAGAIN, errno != EINTR {
                end(link, "\(ServerAddress.lastError); is the server running there?")
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

    /// Handles what is complete; how many bytes that was.
    private func parse(_ bytes: UnsafeRawBufferPointer, _ link: Link) -> Int {
        do {
            return try dialect.parse(bytes, link, of: self)
        } catch {
            end(link, "\(error)")
            return 0
        }
    }

    private func connected(_ link: Link, failed: Bool) {
        var code: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(link.socket, SOL_SOCKET, SO_ERROR, &code, &size)
        guard code == 0, !failed else {
            return end(link, "\(String(cString: strerror(code))); is the server running there?")
        }
        poller.change(link.socket, token: link.index, writable: false)
        dialect.connected(link, of: self)
        touch(link)
    }
}
