import EmbeddedStore
import Foundation
import Ports
import TestKit
import Testing
import Wire

@Suite struct SegmentLogTests {
    private let disk = SimulatedDisk()
    private static let hour: UInt64 = 3_600_000

    private func open(
        segmentBytes: Int = 5000, partitions: UInt32 = 2, tail: Int = 0, wallMS: UInt64 = 1_760_000_000_000
    ) throws -> SegmentLog {
        var config = EmbeddedConfig()
        config.partitions = partitions
        config.segmentBytes = segmentBytes
        config.tailBytes = tail
        config.indexBlockBytes = 500
        return try SegmentLog.open(folder: "log", files: disk, config: config, incarnation: 9, wallMS: { wallMS })
    }

    private func fill(_ log: SegmentLog, batches: Int, bytes: Int = 100) {
        for number in 0..<batches {
            _ = log.append([
                MessageLogContract.entry(UInt32(number % 2), String(repeating: "\(number % 10)", count: bytes)),
                MessageLogContract.entry(0, "n\(number)"),
            ])
        }
    }

    private func restart() { disk.killProcess() }

    private func error(_ work: () throws -> SegmentLog) throws -> StoreOpenError {
        do { _ = try work() } catch let error as StoreOpenError { return error }
        throw ContractFailure.noError
    }

    private enum ContractFailure: Error { case noError }

    @Test func everythingIsThereAfterARestart() throws {
        let first = try open()
        fill(first, batches: 200)
        first.commit("g", [MessageLogContract.position(1, 60)])
        try first.saveCommitted()
        let ends = [first.range(of: 0).end, first.range(of: 1).end]
        #expect(ends == [300, 100])
        restart()
        let second = try open()
        #expect([second.range(of: 0).end, second.range(of: 1).end] == ends)
        #expect(second.committed("g") == [1: 60])
        #expect(second.incarnation == 9)
        let page = try second.read([MessageLogContract.position(1, 10)], maxBytes: 150)
        #expect(page.map(\.offset) == [10, 11])
        #expect(page.first.map { String(decoding: $0.record, as: UTF8.self) } == String(repeating: "1", count: 100))
        #expect(second.append([MessageLogContract.entry(1, "next")]).map(\.offset) == [100])
        #expect(try disk.list("log").filter { $0.hasSuffix(".seg") }.count > 3)
    }

    @Test func aTornTailIsCutOff() throws {
        fill(try open(segmentBytes: 1 << 20), batches: 5)
        restart()
        let name = "log/000000000001.seg"
        let file = try disk.open(name, create: false)
        let whole = try file.size()
        try file.truncate(to: whole - 3)
        let log = try open(segmentBytes: 1 << 20)
        #expect(log.range(of: 0).end == 7)
        #expect(log.append([MessageLogContract.entry(0, "again")]).map(\.offset) == [7])
        restart()
        #expect(try open(segmentBytes: 1 << 20).range(of: 0).end == 8)
    }

    @Test func damageInTheMiddleOfTheLastSegmentIsAnError() throws {
        fill(try open(segmentBytes: 1 << 20), batches: 5)
        restart()
        disk.damage("log/000000000001.seg", at: 120)
        let found = try error { try open(segmentBytes: 1 << 20) }
        #expect(found.kind == .corrupt)
        #expect(found.message.contains("000000000001.seg is damaged at byte"))
    }

    @Test func damageInASealedSegmentIsFoundWhenRead() throws {
        let first = try open()
        fill(first, batches: 200)
        restart()
        disk.damage("log/000000000001.seg", at: 1000)
        let log = try open()
        let failure = #expect(throws: Failure.self) {
            var offset: UInt64 = 0
            while offset < 50 {
                offset += UInt64(try log.read([MessageLogContract.position(0, offset)], maxBytes: 500).count)
            }
        }
        #expect(failure?.message.contains("is damaged at byte") == true)
    }

    @Test func aShortSealedSegmentIsAnError() throws {
        fill(try open(), batches: 200)
        restart()
        let file = try disk.open("log/000000000001.seg", create: false)
        try file.truncate(to: try file.size() - 1)
        #expect(try error { try open() }.kind == .corrupt)
    }

    @Test func aMissingSegmentIsAnError() throws {
        fill(try open(), batches: 200)
        restart()
        try disk.remove("log/000000000002.seg")
        #expect(try error { try open() }.kind == .corrupt)
    }

    @Test func aLostIndexIsMadeAgain() throws {
        fill(try open(), batches: 200)
        restart()
        try disk.remove("log/000000000001.idx")
        let log = try open()
        #expect(disk.contents("log/000000000001.idx") != nil)
        #expect(try log.read([MessageLogContract.position(0, 3)], maxBytes: 1).map(\.offset) == [3])
    }

    @Test func fewerRecordsThanWereConsumedIsAnError() throws {
        let log = try open(segmentBytes: 1 << 20)
        fill(log, batches: 5)
        log.commit("g", [MessageLogContract.position(0, 8)])
        try log.saveCommitted()
        restart()
        let file = try disk.open("log/000000000001.seg", create: false)
        try file.truncate(to: try file.size() - 3)
        let found = try error { try open(segmentBytes: 1 << 20) }
        #expect(found.message.contains("has lost records"))
    }

    @Test func settingsThatDoNotFitAreRefused() throws {
        let first = try open()
        #expect(try error { try open() }.kind == .locked)
        withExtendedLifetime(first) {}
        restart()
        #expect(try error { try open(partitions: 3) }.kind == .mismatch)
    }

    @Test func aFullDiskRefusesAndGoesOnWhenThereIsRoom() throws {
        let log = try open(segmentBytes: 1 << 20)
        fill(log, batches: 3)
        let used = try disk.list("log").reduce(0) { $0 + (disk.contents("log/\($1)")?.count ?? 0) }
        disk.setFaults { $0.capacity = used + 50 }
        let results = log.append((0..<5).map { MessageLogContract.entry(0, "record \($0)") })
        #expect(results.allSatisfy { $0.hasFailure && $0.failure.retryable && !$0.unknown })
        disk.setFaults { $0.capacity = .max }
        #expect(log.append([MessageLogContract.entry(0, "fits")]).map(\.offset) == [5])
        restart()
        let again = try open(segmentBytes: 1 << 20)
        #expect(
            try again.read([MessageLogContract.position(0, 5)], maxBytes: 99).map { $0.record } == [Data("fits".utf8)])
        #expect(again.range(of: 0).end == 6)
    }

    @Test func aFullDiskWhileSealingLosesNothing() throws {
        let log = try open(segmentBytes: 500)
        fill(log, batches: 2, bytes: 300)
        let used = try disk.list("log").reduce(0) { $0 + (disk.contents("log/\($1)")?.count ?? 0) }
        disk.setFaults { $0.capacity = used + 20 }
        #expect(log.append([MessageLogContract.entry(0, "x")]).allSatisfy { $0.hasFailure && !$0.unknown })
        restart()
        disk.setFaults { $0.capacity = .max }
        let again = try open(segmentBytes: 500)
        #expect(again.range(of: 0).end == 3)
        #expect(again.append([MessageLogContract.entry(0, "y")]).map(\.offset) == [3])
    }

    @Test func afterAFailedSyncNothingIsTakenUntilReopened() throws {
        let log = try open()
        fill(log, batches: 2)
        disk.setFaults { $0.failingSyncs = 1 }
        let results = log.append([MessageLogContract.entry(0, "who knows"), MessageLogContract.entry(1, "either")])
        #expect(results.allSatisfy { $0.unknown })
        let later = log.append([MessageLogContract.entry(0, "no")])
        #expect(later.allSatisfy { $0.hasFailure && !$0.unknown })
        #expect(log.range(of: 0).end == 3)
        #expect(try log.read([MessageLogContract.position(0, 3)], maxBytes: 99).isEmpty)
        restart()
        let again = try open()
        #expect(again.append([MessageLogContract.entry(0, "yes")]).allSatisfy { !$0.hasFailure })
    }

    @Test func segmentsGoWhenOldAndConsumed() throws {
        let log = try open()
        fill(log, batches: 200)
        let now = 1_760_000_000_000 + 8 * 24 * Self.hour
        log.commit("g", [MessageLogContract.position(0, 100)])
        #expect(try log.dropExpired(nowMS: now) == 0)
        log.commit("g", [MessageLogContract.position(1, 33)])
        #expect(try log.dropExpired(nowMS: 1_760_000_000_000 + Self.hour) == 0)
        #expect(try log.dropExpired(nowMS: now) > 0)
        let starts = [log.range(of: 0).start, log.range(of: 1).start]
        #expect(starts[0] > 0 && starts[0] <= 100 && starts[1] > 0 && starts[1] <= 33)
        let failure = #expect(throws: Failure.self) { try log.read([MessageLogContract.position(0, 0)], maxBytes: 99) }
        #expect(failure?.isCode(.notFound) == true)
        restart()
        let again = try open()
        #expect([again.range(of: 0).start, again.range(of: 1).start] == starts)
    }

    @Test func aRecordInsideARecordIsNotMistakenForOne() throws {
        // A client's content that looks like later records, then a torn tail: it must not pass for proof of damage.
        fill(try open(segmentBytes: 1 << 20), batches: 4)
        let bytes = try #require(disk.contents("log/000000000001.seg"))
        restart()
        let other = SimulatedDisk()
        var config = EmbeddedConfig()
        config.partitions = 2
        let log = try SegmentLog.open(folder: "log", files: other, config: config, incarnation: 10, wallMS: { 0 })
        var entry = LogEntry()
        entry.record = Data(bytes)
        _ = log.append([entry])
        other.killProcess()
        let file = try other.open("log/000000000001.seg", create: false)
        try file.truncate(to: try file.size() - 1)
        let again = try SegmentLog.open(folder: "log", files: other, config: config, incarnation: 11, wallMS: { 0 })
        #expect(again.range(of: 0).end == 0)
        #expect(again.incarnation == 10)
    }

    @Test func aMemoryLogRefusesWhenNobodyConsumes() throws {
        let log = MemoryLog(partitions: 1, incarnation: 1, limit: 1000)
        let results = log.append((0..<20).map { _ in MessageLogContract.entry(0, String(repeating: "x", count: 52)) })
        #expect(results.filter { !$0.hasFailure }.count == 10)
        #expect(results.last?.failure.isCode(.busy) == true)
        log.commit("g", [MessageLogContract.position(0, 10)])
        #expect(log.append([MessageLogContract.entry(0, "room")]).map(\.offset) == [10])
        #expect(log.range(of: 0).start == 10)
    }
}
