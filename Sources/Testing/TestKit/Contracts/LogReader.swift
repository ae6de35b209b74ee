import Foundation
import RPC
import Wire

/// A port role `log` that can be asked, wherever it lives.
public struct LogPort: Sendable {
    public let log: String
    public let ask: @Sendable (Payload) async -> CallResult

    public init(log: String = "msg", ask: @escaping @Sendable (Payload) async -> CallResult) {
        self.log = log
        self.ask = ask
    }

    /// Appends and gives the results.
    public func append(_ entries: [LogEntry]) async throws -> [LogAppendResult] {
        var request = LogAppend()
        request.log = log
        request.entries = entries
        let result = await ask(.logAppend(request))
        guard case .answered(.logAppended(let body)) = result else {
            throw ContractViolation(description: "no answer to an append: \(result)")
        }
        return body.results
    }
}

/// A member of a group as MsgWriter is one: fetches, follows generations, commits when it is told to.
public struct LogReader: Sendable {
    public let port: LogPort
    public let group: String
    public let member: String
    public private(set) var generation: UInt64 = 0
    public private(set) var incarnation: UInt64 = 0
    public private(set) var partitions: UInt32 = 0
    /// The next offset wanted of every partition that is this member's.
    public var next: [UInt32: UInt64] = [:]
    public private(set) var ends: [UInt32: UInt64] = [:]
    /// Where the group was when the last share was given.
    public private(set) var assigned: [UInt32: UInt64] = [:]
    /// Generations seen.
    public private(set) var shares = 0

    public init(_ port: LogPort, group: String, member: String) {
        self.port = port
        self.group = group
        self.member = member
    }

    public static func position(_ partition: UInt32, _ offset: UInt64) -> LogPosition {
        MessageLogContract.position(partition, offset)
    }

    /// One fetch. New partitions start at the group's position. Gives the records that follow on what was had.
    public mutating func poll(
        waitMS: UInt32 = 500, maxBytes: UInt32 = 1 << 20, only: Set<UInt32>? = nil
    ) async throws -> [LogEntry] {
        let result = await fetch(waitMS: waitMS, maxBytes: maxBytes, only: only)
        guard case .answered(.logFetched(let body)) = result else {
            throw ContractViolation(description: "no answer to a fetch: \(result)")
        }
        return take(body)
    }

    /// The bare call.
    public func fetch(waitMS: UInt32, maxBytes: UInt32 = 1 << 20, only: Set<UInt32>? = nil) async -> CallResult {
        var request = LogFetch()
        request.log = port.log
        request.group = group
        request.member = member
        request.generation = generation
        request.maxBytes = maxBytes
        request.waitMs = waitMS
        request.positions = next.keys.sorted().filter { only?.contains($0) ?? true }.map {
            Self.position($0, next[$0] ?? 0)
        }
        return await port.ask(.logFetch(request))
    }

    /// Takes an answer over.
    public mutating func take(_ body: LogFetched) -> [LogEntry] {
        incarnation = body.incarnation
        partitions = body.partitions
        ends = [:]
        for end in body.ends { ends[end.partition] = end.offset }
        guard body.generation == generation else {
            let followed = body.generation == generation + 1
            generation = body.generation
            shares += 1
            var kept: [UInt32: UInt64] = [:]
            assigned = [:]
            for position in body.assigned {
                assigned[position.partition] = position.offset
                kept[position.partition] = followed ? next[position.partition] ?? position.offset : position.offset
            }
            next = kept
            return []
        }
        return body.entries.filter { entry in
            guard next[entry.partition] == entry.offset else { return false }
            next[entry.partition] = entry.offset + 1
            return true
        }
    }

    public func commit(_ positions: [LogPosition], generation: UInt64? = nil) async -> CallResult {
        var request = LogCommit()
        request.log = port.log
        request.group = group
        request.member = member
        request.generation = generation ?? self.generation
        request.positions = positions
        return await port.ask(.logCommit(request))
    }

    public func leave() async -> CallResult {
        var request = LogLeave()
        request.log = port.log
        request.group = group
        request.member = member
        return await port.ask(.logLeave(request))
    }

    /// Fetches until it has partitions; 30 fetches at most.
    public mutating func join(wanted: Int) async throws {
        for _ in 0..<60 where next.count != wanted { _ = try await poll(waitMS: 200) }
        try same(next.count, wanted, "partitions of \(member)")
    }

    /// Fetches until so many records came; 60 fetches at most.
    public mutating func read(_ count: Int, maxBytes: UInt32 = 1 << 20) async throws -> [LogEntry] {
        var found: [LogEntry] = []
        for _ in 0..<60 where found.count < count {
            let more = try await poll(maxBytes: maxBytes)
            found += more
            // A fetch that is answered at once, because of a position beyond an end, must not spend all tries.
            if more.isEmpty { try await Task.sleep(for: .milliseconds(20)) }
        }
        return found
    }
}
