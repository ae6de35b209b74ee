import Machinery
import NIOCore
import Wire

/// What one hostile connection does.
enum HostileKind: String, CaseIterable {
    /// Connects and resets, every second one after a HELLO.
    case churn
    /// Random bytes.
    case garbage
    /// Announces a frame of a quarter of a gigabyte and sends it byte by byte.
    case giant
    /// A HELLO, and then PINGs instead of a login, as fast as they are taken.
    case flood
    /// A login with a token that nobody signed.
    case impostor
    /// Logs in, asks without end, and never reads an answer.
    case unread
    /// Connects and says nothing, every second one after half a HELLO.
    case silent

    /// How many there are at once, beside the silent ones, whose number is asked for.
    static let each = 10

    /// It is given up after this, when the server has not ended it before; nil: never.
    var lifetimeMicros: UInt64? {
        switch self {
        case .churn: 0
        case .garbage, .flood, .impostor: 1_000_000
        case .giant: 2_000_000
        case .unread, .silent: nil
        }
    }
}

/// A hostile connection: what it is and how far it is. Belongs to the run's thread.
struct HostileClient {
    enum Stage { case waiting, connecting, open }

    let kind: HostileKind
    /// Of all hostile clients, from 0; the poller's token.
    let number: Int
    var socket: Int32 = -1
    var stage = Stage.waiting
    var openedMicros: UInt64 = 0
    /// How often it was opened.
    var lives = 0
    var requestID: UInt32 = 0

    init(_ kind: HostileKind, number: Int) {
        self.kind = kind
        self.number = number
    }

    /// Every second life of some kinds is a little different.
    var isOddLife: Bool { lives % 2 == 1 }
}

/// The bytes that hostile clients send.
struct HostileBytes {
    let hello: [UInt8]
    /// A HELLO, and a token of the right form that nobody signed.
    let impostor: [UInt8]
    /// A HELLO and as many PINGs as fit into a few packets.
    let flood: [UInt8]
    let pings: [UInt8]
    /// A length of 2^28 - 1, the most that the prefix can say, and a type.
    let giant: [UInt8] = [0xff, 0xff, 0xff, 0x7f, FrameType.hello.rawValue]
    private var random: SeededRandom

    init(seed: UInt64) {
        random = SeededRandom(seed: seed)
        var greeting = Hello()
        greeting.version = 1
        greeting.client = "martlet-bench"
        hello = Self.stream(.hello(greeting.buffer))
        var login = Authenticate()
        login.token = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsifQ.eyJhcHAiOiJkZW1vIn0.c2lnbmVkLWJ5LW5vYm9keQ"
        login.deviceID = "bench"
        login.platform = "bench"
        impostor = hello + Self.stream(.authenticate(login.buffer))
        let ping = Self.stream(.ping)
        pings = Array((0..<2000).map { _ in ping }.joined())
        flood = hello + pings
    }

    mutating func garbage() -> [UInt8] { (0..<4096).map { _ in UInt8.random(in: 0...255, using: &random) } }

    /// HELLO and a valid login in one go.
    func login(token: String) -> [UInt8] {
        var authenticate = Authenticate()
        authenticate.token = token
        authenticate.deviceID = "bench"
        authenticate.platform = "bench"
        return hello + Self.stream(.authenticate(authenticate.buffer))
    }

    /// A request to a service that does not exist: its answer is the server's work.
    static func request(_ id: UInt32) -> [UInt8] {
        stream(.request(.init(svid: 900, method: 1, requestID: id), ByteBuffer(repeating: 0x20, count: 200)))
    }

    private static func stream(_ frame: Frame) -> [UInt8] {
        var buffer = ByteBuffer()
        FrameCodec.encodeStream(frame, into: &buffer)
        return Array(buffer.readableBytesView)
    }
}
