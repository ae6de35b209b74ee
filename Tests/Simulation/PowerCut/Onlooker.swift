import Foundation
import RPC
import Simulator
import Wire

/// Somebody who reads: asks the recent store for the newest rows of every conversation again and again.
struct Onlooker: RoleMachine {
    static let role = RoleName(rawValue: "onlooker")
    private let app: String
    private let conversations: [String]
    private let everyMS: UInt32
    private(set) var notes = SeenMessages()

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
                .call(1, .any(.recentStore), .readRows(body), timeoutMS: 1000), .timer(1, afterMS: everyMS),
            ]
        case .reply(_, .answered(.rowsRead(let body))):
            for row in body.pages.flatMap(\.rows) { notes.saw(row.conversation, row.seq, row.message) }
            return []
        case .call(let id, _, _): return [.refuse(id, Failure(.noSuchMethod, "an onlooker only asks"))]
        case .reply, .flush, .input: return []
        }
    }
}

/// What anybody outside was shown: a message keeps its place for ever from then on.
struct SeenMessages {
    private(set) var places: [String: [UInt64: Data]] = [:]
    private(set) var violations: [Violation] = []

    var count: Int { places.values.reduce(0) { $0 + $1.count } }

    mutating func saw(_ conversation: String, _ seq: UInt64, _ message: Data) {
        let before = places[conversation, default: [:]].updateValue(message, forKey: seq)
        if let before, before != message {
            violations.append(Violation(.mistake, "\(conversation) \(seq) was shown as two messages"))
        }
    }
}
