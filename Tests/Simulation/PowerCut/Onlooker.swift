import Foundation
import RPC
import Simulator
import Wire

/// Somebody who reads: asks the recent store for the newest rows of every conversation again and again, and for the
/// heads that changed since the last answer, as a client does that comes back.
struct Onlooker: RoleMachine {
    static let role = RoleName(rawValue: "onlooker")
    private let app: String
    private let conversations: [String]
    private let everyMS: UInt32
    private(set) var notes = SeenMessages()
    /// What the heads said, by conversation, and the marks that came with them.
    private var known: [String: UInt64] = [:]
    private var marks = Data()
    private static let rows: UInt64 = 1
    private static let heads: UInt64 = 2

    init(app: String, conversations: [String], everyMS: UInt32) {
        self.app = app
        self.conversations = conversations
        self.everyMS = everyMS
    }

    mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .start: return [.timer(1, afterMS: everyMS)]
        case .timer:
            var body = ReadRows()
            body.queries = conversations.map { name in
                var query = RowsQuery()
                query.appID = app
                query.conversation = name
                query.limit = 100
                return query
            }
            return [
                .call(Self.rows, .any(.recentStore), .readRows(body), timeoutMS: 1000),
                .call(Self.heads, .any(.recentStore), .readHeads(changedHeads()), timeoutMS: 1000),
                .timer(1, afterMS: everyMS),
            ]
        case .reply(_, .answered(.rowsRead(let body))):
            for row in body.pages.flatMap(\.rows) { notes.saw(row.conversation, row.seq, row.message) }
            return []
        case .reply(_, .answered(.headsRead(let body))):
            learn(body)
            return []
        case .call(let id, _, _): return [.refuse(id, Failure(.noSuchMethod, "an onlooker only asks"))]
        case .reply, .flush, .input: return []
        }
    }

    /// Every conversation twice: what changed since the marks, and what is there whether it changed or not.
    private func changedHeads() -> ReadHeads {
        var body = ReadHeads()
        body.shardMarks = marks
        for always in [false, true] {
            body.queries += conversations.map { name in
                var query = HeadQuery()
                query.appID = app
                query.conversation = name
                query.userID = "onlooker"
                query.always = always
                return query
            }
        }
        return body
    }

    /// Whoever takes over what is said to have changed knows of every message. It may know of more for a moment: after
    /// a power cut the log is replayed.
    private mutating func learn(_ body: HeadsRead) {
        guard !body.hasFailure, body.heads.count == 2 * conversations.count else { return }
        marks = body.shardMarks
        for (index, name) in conversations.enumerated() {
            if body.heads[index].changed { known[name] = body.heads[index].seq }
            let (seq, noted) = (body.heads[index + conversations.count].seq, known[name] ?? 0)
            if noted < seq { notes.missed(name, noted, seq) }
        }
    }
}

/// What anybody outside was shown: a message keeps its place for ever from then on.
struct SeenMessages {
    private(set) var places: [String: [UInt64: Data]] = [:]
    private(set) var violations: [Violation] = []

    /// The marks hid a message from somebody.
    mutating func missed(_ conversation: String, _ known: UInt64, _ seq: UInt64) {
        violations.append(
            Violation(
                .lost, "\(conversation) ends at \(seq), and whoever knew of \(known) is told that nothing changed"))
    }

    var count: Int { places.values.reduce(0) { $0 + $1.count } }

    mutating func saw(_ conversation: String, _ seq: UInt64, _ message: Data) {
        let before = places[conversation, default: [:]].updateValue(message, forKey: seq)
        if let before, before != message {
            violations.append(Violation(.shownWrong, "\(conversation) \(seq) was shown as two messages"))
        }
    }
}
