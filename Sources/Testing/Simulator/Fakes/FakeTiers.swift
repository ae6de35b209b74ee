import Foundation
import Machinery
import RPC
import Wire

/// The hot store's port: remembers what it was ever given, so that a test can ask whether it was.
public struct FakeHot: RoleMachine {
    public static let role = RoleName.hotStore
    public private(set) var has: Set<String> = []
    public var trouble: Double
    private var random: SeededRandom

    public init(seed: UInt64, trouble: Double = 0) {
        self.random = SeededRandom(seed: seed)
        self.trouble = trouble
    }

    public static func name(_ app: String, _ conversation: String, _ seq: UInt64) -> String {
        "\(app) \(conversation) \(seq)"
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        guard case .call(let id, let payload, _) = event else { return [] }
        guard case .hotPut(let body) = payload else {
            return [.refuse(id, Failure(.noSuchMethod, "not a hot store's call"))]
        }
        if random.chance(trouble) { return [.refuse(id, Failure(.storeUnavailable, "the hot store is away"))] }
        for row in body.rows { has.insert(Self.name(row.appID, row.conversation, row.seq)) }
        return [.reply(id, .done(Done()))]
    }
}

/// PushProxy with its log: what it has confirmed. Some items of a call may fail.
public struct FakePushProxy: RoleMachine {
    public static let role = RoleName.pushProxy
    public private(set) var records: [PushRecord] = []
    public private(set) var has: Set<String> = []
    public private(set) var events: [PushEvent] = []
    public var trouble: Double
    private let audience: RoleName?
    private var random: SeededRandom

    /// - Parameter audience: who is told of every push, best effort; nil for nobody.
    public init(seed: UInt64, trouble: Double = 0, audience: RoleName? = nil) {
        self.random = SeededRandom(seed: seed)
        self.trouble = trouble
        self.audience = audience
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        guard case .call(let id, let payload, _) = event else { return [] }
        switch payload {
        case .pushMessages(let body):
            var done = Done()
            var failed = false
            for item in body.items {
                guard !random.chance(trouble) else {
                    failed = true
                    done.failures.append(Failure(.storeUnavailable, "not appended"))
                    continue
                }
                done.failures.append(Failure())
                records.append(item.record)
                let message = item.record.message
                has.insert(FakeHot.name(item.record.appID, message.conversation, message.seq))
            }
            if !failed { done.failures = [] }
            return [.reply(id, .done(done))] + (audience.map { [.tell(.any($0), payload)] } ?? [])
        case .pushEvents(let body):
            events += body.events
            return [.reply(id, .pushEventResults(PushEventResults()))]
        default: return [.refuse(id, Failure(.noSuchMethod, "not PushProxy's call"))]
        }
    }
}

/// User as the message path sees it: who exists, and the index entries that were touched.
public struct FakeUser: RoleMachine {
    public static let role = RoleName.user
    /// Entries by "app user conversation".
    public private(set) var entries: [String: IndexEntry] = [:]
    /// Users that do not exist.
    public var missing: Set<String> = []
    public var trouble: Double
    private var random: SeededRandom

    public init(seed: UInt64, trouble: Double = 0) {
        self.random = SeededRandom(seed: seed)
        self.trouble = trouble
    }

    public static func name(_ app: String, _ user: String, _ conversation: String) -> String {
        "\(app) \(user) \(conversation)"
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        guard case .call(let id, let payload, _) = event else { return [] }
        if random.chance(trouble) { return [.refuse(id, Failure(.storeUnavailable, "the store is away"))] }
        switch payload {
        case .userCheck(let body):
            var reply = UserChecked()
            reply.users = body.users.map { key in
                var fact = UserFact()
                fact.exists = !missing.contains(key.userID)
                return fact
            }
            return [.reply(id, .userChecked(reply))]
        case .indexTouch(let body):
            for entry in body.entries {
                let name = Self.name(entry.appID, entry.userID, entry.conversation)
                var merged = entries[name] ?? entry
                merged.readSeq = max(merged.readSeq, entry.readSeq)
                entries[name] = merged
            }
            return [.reply(id, .done(Done()))]
        default: return [.refuse(id, Failure(.noSuchMethod, "not User's call"))]
        }
    }
}

/// MsgReader reduced to one tier: passes rows of the recent store on.
public struct FakeReader: RoleMachine {
    public static let role = RoleName.msgReader
    private var asked: [UInt64: CallID] = [:]
    private var next: UInt64 = 1

    public init() {}

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .call(let id, .readRows(let body), _):
            asked[next] = id
            next += 1
            return [.call(next - 1, .any(.recentStore), .readRows(body), timeoutMS: 2000)]
        case .call(let id, _, _): return [.refuse(id, Failure(.noSuchMethod, "not a reader's call"))]
        case .reply(let token, let result):
            guard let id = asked.removeValue(forKey: token) else { return [] }
            if case .answered(let payload) = result { return [.reply(id, payload)] }
            return [.refuse(id, Failure(.historyUnavailable, "the store is away"))]
        case .start, .timer, .flush: return []
        }
    }
}
