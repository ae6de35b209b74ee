import Foundation
import Machinery
import RPC
import Wire

/// Port role `log`: several named logs, their groups, parked fetches. Appends are gathered and made durable together on
/// `.flush`; what is in no log yet is never handed out.
///
/// Isolation: a lane with a thread of its own; storage may block.
public struct LogMachine: RoleMachine {
    public static let role = RoleName.messageLog

    /// Limits, each with its reason.
    public enum Limits {
        /// A member that has not called for this long is gone. Microseconds.
        public static let silentMicros: UInt64 = 10_000_000
        /// A fetch is parked for at most this long, so that a living member is never silent for too long.
        public static let waitMS: UInt32 = 5000
        /// Appends are written early when this much has gathered: bounds memory and the size of one write.
        public static let gatherBytes = 8 << 20
        /// Most and least bytes of records in one answer.
        public static let fetchBytes = 4 << 20
        public static let fetchBytesLeast = 4096
        /// Names of groups and members, in bytes; groups of a log; members of a group.
        public static let nameBytes = 128
        public static let groups = 64
        public static let members = 256
        /// How often members are counted and positions made durable.
        public static let sweepMS: UInt32 = 1000
        /// Sweeps between two looks at the retention.
        public static let sweepsPerRetention = 60
    }

    /// Appends of one call, waiting for the flush: which of the gathered entries are its own.
    struct PendingAppend: Sendable {
        let id: CallID
        let log: String
        /// Per entry of the call: its place among the gathered ones, or why it was refused.
        var places: [Result<Int, Failure>]
    }

    struct Parked: Sendable {
        let id: CallID
        let fetch: LogFetch
        let deadline: UInt64
    }

    struct LogState: Sendable {
        let store: any MessageLogStore
        var groups: [String: LogGroup] = [:]
        /// At most one parked fetch per (group, member).
        var parked: [String: [String: Parked]] = [:]
        var gathered: [LogEntry] = []
        var gatheredBytes = 0
        var hasNews = false
        /// A failing disk is told once, not at every sweep.
        var complained = false
    }

    static let sweepTimer: UInt64 = 1
    static let parkTimer: UInt64 = 2
    /// What is appended soon after a write is written.
    public static let writeTimer: UInt64 = 3

    var logs: [String: LogState]
    var pending: [PendingAppend] = []
    /// The earliest deadline that a timer is set for.
    var armedFor: UInt64?
    private var sweeps = 0
    private var clock = PatientClock()
    let writeEveryMS: UInt32
    var lastWriteMicros: UInt64 = 0
    var writeArmed = false

    /// - Parameters:
    ///   - logs: the storage of each log by name.
    ///   - writeEveryMS: what is appended within this time of a write waits for the next, as with librdkafka's linger;
    ///     the first append after a pause is written at once. Every batch costs the same in each service behind the
    ///     log, however small it is; 0 writes with every flush.
    public init(logs: [String: any MessageLogStore], writeEveryMS: UInt32 = 0) {
        self.logs = logs.mapValues { LogState(store: $0) }
        self.writeEveryMS = writeEveryMS
    }

    public mutating func on(_ event: RoleEvent<Never>, now: Instant) -> [RoleAction<Never>] {
        switch event {
        case .start:
            _ = clock.nowMS(micros: now.micros, wallMS: now.wallMS)
            return [.timer(Self.sweepTimer, afterMS: Limits.sweepMS)]
        case .call(let id, let payload, _): return call(id, payload, now)
        case .reply: return []
        case .timer(Self.sweepTimer): return sweep(now)
        case .timer(Self.parkTimer): return endParked(now)
        case .timer(Self.writeTimer):
            writeArmed = false
            return []
        case .timer: return []
        case .flush: return flush(now)
        }
    }

    private mutating func call(_ id: CallID, _ payload: Payload, _ now: Instant) -> [RoleAction<Never>] {
        switch payload {
        case .logAppend(let request): return gather(id, request, now)
        case .logFetch(let request): return fetch(id, request, now)
        case .logCommit(let request): return commit(id, request, now)
        case .logLeave(let request): return leave(id, request)
        case .logProgressAsk(let request): return [progress(id, request)]
        default:
            return [.refuse(id, Failure(.noSuchMethod, "the log does not answer payload \(payload.kind)"))]
        }
    }

    static func unknownLog(_ name: String) -> Failure { Failure(.notFound, "there is no log \"\(name)\"") }

    private mutating func sweep(_ now: Instant) -> [RoleAction<Never>] {
        sweeps += 1
        var actions: [RoleAction<Never>] = [.timer(Self.sweepTimer, afterMS: Limits.sweepMS)]
        let nowMS = clock.nowMS(micros: now.micros, wallMS: now.wallMS)
        let silentBefore = now.micros > Limits.silentMicros ? now.micros - Limits.silentMicros : 0
        for name in logs.keys.sorted() {
            guard var log = logs.removeValue(forKey: name) else { continue }
            for group in log.groups.keys.sorted() where log.groups[group]?.dropSilent(before: silentBefore) == true {
                actions += Self.endGeneration(&log, group)
            }
            do throws(Failure) {
                try log.store.saveCommitted()
                if sweeps % Limits.sweepsPerRetention == 0 { _ = try log.store.dropExpired(nowMS: nowMS) }
                log.complained = false
            } catch {
                if !log.complained { actions.append(.warn("log upkeep failed", ["log": name, "why": error.message])) }
                log.complained = true
            }
            logs[name] = log
        }
        return actions
    }
}
