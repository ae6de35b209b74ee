import Glibc
import NIOCore
import Wire

/// Who gets the frames that `MartletDialect` does not answer itself.
protocol FrameUser: AnyObject {
    /// The bytes are lent for the call.
    func received(_ type: FrameType, _ frame: UnsafeRawBufferPointer, on link: Link, of fleet: Fleet)
}

/// Martlet's client protocol: logs in, answers heartbeats and acknowledges pushes as WELCOME asks.
final class MartletDialect: Dialect {
    weak var user: (any FrameUser)?
    var acks = PushAcks()
    private(set) var heartbeatMicros: UInt64 = 30_000_000
    /// Server time minus our clock, in milliseconds, as of the first login.
    private var serverOffsetMS: UInt64 = 0

    var tickMS: Int32? { acks.isEmpty ? nil : PushAcks.tickMS }

    /// Unix milliseconds by the server's clock.
    func serverTimeMS(now: UInt64) -> UInt64 { now / 1000 &+ serverOffsetMS }

    func keepAlive(_ link: Link) { link.append(.ping) }

    func goodbye(_ link: Link) { link.append(.bye) }

    func tick(_ fleet: Fleet) {
        acks.due(fleet.now) { link in
            link.appendPushAck()
            fleet.touch(link)
        }
    }

    /// Takes the id of a PUSH or SEQ_NOTICE and acknowledges when it is time.
    func arrived(_ frame: UnsafeRawBufferPointer, on link: Link, of fleet: Fleet) -> PushAcks.Arrival {
        let arrival = acks.arrived(FrameScan.number(frame), on: link, now: fleet.now)
        if acks.full(link) {
            link.appendPushAck()
            fleet.touch(link)
        }
        return arrival
    }

    // MARK: - Frames

    func parse(_ bytes: UnsafeRawBufferPointer, _ link: Link, of fleet: Fleet) throws(BenchError) -> Int {
        var at = 0
        if link.stage == .upgrading {
            guard let end = upgraded(bytes, link, fleet) else { return 0 }
            at = end
        }
        while link.socket >= 0, let cut = try FrameCutter.next(bytes, at: at, webSocket: link.webSocket) {
            let payload = UnsafeRawBufferPointer(rebasing: bytes[cut.start..<cut.end])
            switch cut.kind {
            case .frame: frame(payload, link, fleet)
            case .webSocketPing:
                link.appendMasked(opcode: 10, Array(payload))
                fleet.touch(link)
            case .webSocketClose: fleet.end(link, "the server closed the connection")
            case .ignored: break
            }
            at = cut.end
        }
        return at
    }

    private func frame(_ frame: UnsafeRawBufferPointer, _ link: Link, _ fleet: Fleet) {
        guard let type = FrameType(rawValue: frame[0]) else { return }
        switch type {
        case .ping:
            link.append(.pong)
            fleet.touch(link)
        case .pong: break
        case .kick:
            let kick = try? Kick(serializedBytes: Array(frame.dropFirst()))
            fleet.end(link, "kicked: \(kick?.reason ?? "") \(kick?.message ?? "")")
        case .error:
            let failure = try? Failure(serializedBytes: Array(frame.dropFirst()))
            let hint = link.stage == .ready ? "" : "; is --access the file of its data folder?"
            fleet.end(link, "\(failure?.reason ?? "") (\(failure?.message ?? ""))\(hint)")
        case .welcome where link.stage == .greeting: welcomed(frame, link, fleet)
        case .authenticated where link.stage == .authenticating: authenticated(frame, link, fleet)
        default: if link.stage == .ready { user?.received(type, frame, on: link, of: fleet) }
        }
    }

    // MARK: - Handshake

    func connected(_ link: Link, of fleet: Fleet) {
        link.stage = link.webSocket ? .upgrading : .greeting
        link.webSocket ? link.append(upgradeTo: fleet.address.host) : greet(link)
    }

    private func greet(_ link: Link) {
        var hello = Hello()
        hello.version = 1
        hello.client = "martlet-bench"
        link.append(.hello(hello.buffer))
    }

    /// The end of the HTTP answer; nil when it is not all there or is no upgrade.
    private func upgraded(_ bytes: UnsafeRawBufferPointer, _ link: Link, _ fleet: Fleet) -> Int? {
        let mark = Array("\r\n\r\n".utf8)
        guard let at = bytes.indices.first(where: { bytes[$0...].starts(with: mark) }) else { return nil }
        guard bytes.starts(with: "HTTP/1.1 101".utf8) else {
            fleet.end(link, "no WebSocket there: is this the port for WebSocket clients?")
            return nil
        }
        link.stage = .greeting
        greet(link)
        fleet.touch(link)
        return at + mark.count
    }

    private func welcomed(_ frame: UnsafeRawBufferPointer, _ link: Link, _ fleet: Fleet) {
        guard let welcome = try? Welcome(serializedBytes: Array(frame.dropFirst())) else {
            return fleet.end(link, "the server's WELCOME cannot be read")
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
        fleet.touch(link)
    }

    private func authenticated(_ frame: UnsafeRawBufferPointer, _ link: Link, _ fleet: Fleet) {
        guard let session = try? Authenticated(serializedBytes: Array(frame.dropFirst())) else {
            return fleet.end(link, "the server's AUTHENTICATED cannot be read")
        }
        if serverOffsetMS == 0 { serverOffsetMS = session.serverTimeMs &- fleet.now / 1000 }
        fleet.ready(link)
    }
}
