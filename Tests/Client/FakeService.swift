import Foundation
import Identity
import Machinery
import NIOCore
import Wire

/// A server as one value: Login's client side, sends with dedup and order, pushes until acked, sync, history, state,
/// presence and an echo service at svid 1000. It can be told to fail in ways that a client must bear.
struct FakeService {
    struct Faults {
        /// Chances, 0 to 1: an append that is refused retryably, one that is done but answered unknown, a push frame
        /// that is lost (repeated later), a page of history that fails.
        var refused = 0.0
        var unknown = 0.0
        var lostPush = 0.0
        var failedPage = 0.0
    }

    struct Session {
        var user = ""
        var device = ""
        var sessionID: Int
        var ready = false
        var lastPush: UInt32 = 0
        var unacked: [(id: UInt32, frame: Frame)] = []
        /// Highest turn that was broken, by conversation.
        var broken: [String: UInt16] = [:]
        var watched: Set<String> = []
    }

    struct DedupKey: Hashable {
        var conversation: String
        var sender: String
        var device: String
        var id: [UInt8]
        var content: [UInt8]
    }

    var faults = Faults()
    var random: SeededRandom
    var nowMS: UInt64 = 1_700_000_000_000
    var rows: [String: [PushedMessage]] = [:]
    var dedup: [DedupKey: UInt64] = [:]
    var read: [String: [String: UInt64]] = [:]
    var delivered: [String: [String: UInt64]] = [:]
    var sessions: [Int: Session] = [:]
    /// Frames for the sessions, to be taken.
    var out: [(session: Int, frame: Frame)] = []
    /// Sessions to be closed once `out` is written.
    var closing: [Int] = []

    init(seed: UInt64, faults: Faults = Faults()) {
        random = SeededRandom(seed: seed)
        self.faults = faults
    }

    mutating func open(_ session: Int) { sessions[session] = Session(sessionID: session) }

    mutating func close(_ session: Int) {
        guard let gone = sessions.removeValue(forKey: session), gone.ready else { return }
        tellPresence(of: gone.user)
    }

    mutating func received(_ frame: Frame, from session: Int) {
        guard sessions[session] != nil else { return }
        switch frame {
        case .hello:
            var welcome = Welcome()
            welcome.version = 1
            welcome.serverTimeMs = nowMS
            welcome.heartbeatMs = 30_000
            welcome.pushAckEvery = 32
            welcome.pushAckMs = 50
            out.append((session, .welcome(welcome.buffer)))
        case .authenticate(let body): authenticate(session, Authenticate(body: body))
        case .ping: out.append((session, .pong))
        case .pushAck(let id): sessions[session]?.unacked.removeAll { $0.id <= id }
        case .orderedRequest(let header, let key, let turn, let body):
            send(session, header.requestID, key, turn, SendRequest(body: body))
        case .request(let header, let body): request(session, header, body)
        case .bye: closing.append(session)
        default: closing.append(session)
        }
    }

    private mutating func authenticate(_ session: Int, _ request: Authenticate?) {
        guard let request, let user = Self.user(ofToken: request.token) else {
            out.append((session, .error(Failure(.tokenBadSignature, "the fake knows no such token").buffer)))
            return closing.append(session)
        }
        for (other, old) in sessions.sorted(by: { $0.key < $1.key })
        where old.ready && old.user == user && old.device == request.deviceID {
            var kick = Kick()
            kick.code = ErrorCode.displaced.number
            kick.reason = ErrorCode.displaced.name
            kick.message = "logged in elsewhere"
            out.append((other, .kick(kick.buffer)))
            closing.append(other)
        }
        sessions[session]?.user = user
        sessions[session]?.device = request.deviceID
        sessions[session]?.ready = true
        var answer = Authenticated()
        answer.userID = user
        answer.sessionID = "fake-\(session)"
        answer.serverTimeMs = nowMS
        out.append((session, .authenticated(answer.buffer)))
        tellPresence(of: user)
    }

    /// "user:alice", or a JWT, whose signature is the token tests' affair.
    static func user(ofToken token: String) -> String? {
        if token.hasPrefix("user:") { return String(token.dropFirst(5)) }
        let parts = token.split(separator: ".")
        guard parts.count == 3 else { return nil }
        var claims = String(parts[1]).replacingOccurrences(of: "-", with: "+").replacingOccurrences(of: "_", with: "/")
        while claims.count % 4 != 0 { claims += "=" }
        struct Claims: Decodable { var sub: String }
        guard let bytes = Data(base64Encoded: claims) else { return nil }
        return try? JSONDecoder().decode(Claims.self, from: bytes).sub
    }

    private mutating func send(_ session: Int, _ id: UInt32, _ key: String, _ turn: UInt16, _ request: SendRequest?) {
        guard let from = sessions[session], let request, request.conversation == key,
            let name = ConversationName(key), name.peer(of: from.user) != nil
        else { return out.append((session, .failure(requestID: id, Failure(.badConversation, "no").buffer))) }
        if let broken = from.broken[key], turn <= broken {
            return out.append((session, .failure(requestID: id, Failure(.resendInOrder, "behind").buffer)))
        }
        var response = SendResponse()
        var isBroken = false
        for item in request.items {
            var result = SendResult()
            result.outcome = .accepted
            if isBroken || random.chance(faults.refused) {
                result.outcome = .refused
                result.failure = Failure(isBroken ? .resendInOrder : .busy, "fault")
                isBroken = true
            } else {
                store(item, in: key, from: from)
                if random.chance(faults.unknown) {
                    result.outcome = .unknown
                    result.failure = Failure(.outcomeUnknown, "fault")
                    isBroken = true
                }
            }
            response.results.append(result)
        }
        if isBroken { sessions[session]?.broken[key] = turn }
        out.append((session, .response(requestID: id, response.buffer)))
    }

    private mutating func store(_ item: SendItem, in key: String, from: Session) {
        let dedupKey = DedupKey(
            conversation: key, sender: from.user, device: from.device, id: Array(item.clientMsgID),
            content: Array(item.content))
        guard dedup[dedupKey] == nil else { return }
        var message = ChatMessage()
        message.sender = from.user
        message.device = from.device
        message.clientMsgID = item.clientMsgID
        message.kind = item.kind
        message.content = item.content
        message.sentMs = nowMS
        message.control = item.kind == .contentRecall
        message.targetSeq = item.targetSeq
        let row = append(message, to: key)
        dedup[dedupKey] = row.seq
        read[key, default: [:]][from.user] = row.seq
        var stored = SeqNotice.Stored()
        stored.conversation = key
        stored.clientMsgID = item.clientMsgID
        stored.seq = row.seq
        stored.n = row.n
        stored.timeMs = row.timeMs
        var notice = SeqNotice()
        notice.stored = [stored]
        let members = ConversationName(key)?.members ?? []
        for (id, session) in sessions.sorted(by: { $0.key < $1.key })
        where session.ready && members.contains(session.user) {
            if id == from.sessionID {
                deliver(id) { .seqNotice(pushID: $0, notice.buffer) }
            } else {
                deliver(id) { .push(pushID: $0, row.buffer) }
            }
        }
    }

    @discardableResult
    mutating func append(_ message: ChatMessage, to key: String) -> PushedMessage {
        let last = rows[key]?.last
        var row = PushedMessage()
        row.conversation = key
        row.seq = (last?.seq ?? 0) + 1
        row.n = (last?.n ?? 0) + (message.control ? 0 : 1)
        row.timeMs = max(last?.timeMs ?? 0, nowMS)
        row.message = (try? message.serializedData()) ?? Data()
        rows[key, default: []].append(row)
        return row
    }

    /// Gives the frame its push id; it may be lost on the way, and is then repeated.
    mutating func deliver(_ session: Int, _ frame: (UInt32) -> Frame) {
        guard let id = sessions[session].map({ $0.lastPush + 1 }) else { return }
        sessions[session]?.lastPush = id
        sessions[session]?.unacked.append((id, frame(id)))
        if !random.chance(faults.lostPush) { out.append((session, frame(id))) }
    }

    /// Sends unacknowledged frames again, as Login does when time passes.
    mutating func repeatUnacked() {
        for (id, session) in sessions.sorted(by: { $0.key < $1.key }) {
            for entry in session.unacked where !random.chance(faults.lostPush) { out.append((id, entry.frame)) }
        }
    }
}
