import EmbeddedStore
import Foundation
import Machinery
import Ports
import TestKit
import Testing
import Wire

/// The power goes at a seeded point; what was acknowledged must be there, whole, and everything dense.
@Suite struct PowerCutTests {
    /// What one partition acknowledged.
    private struct Acked {
        var records: [UInt32: [UInt64: Data]] = [:]
        var committed: [UInt32: UInt64] = [:]
        var incarnation: UInt64?
    }

    private static var seeds: ClosedRange<UInt64> {
        let wanted = ProcessInfo.processInfo.environment["MARTLET_SEEDS"].flatMap(UInt64.init) ?? 50
        return 1...max(1, wanted)
    }

    private static func open(_ disk: SimulatedDisk, _ seed: UInt64) throws -> SegmentLog {
        var config = EmbeddedConfig()
        config.partitions = 4
        config.segmentBytes = 6000
        config.tailBytes = seed % 2 == 0 ? 0 : 1 << 20
        config.indexBlockBytes = 700
        return try SegmentLog.open(folder: "data", files: disk, config: config, incarnation: seed, wallMS: { seed })
    }

    /// Appends batches of random records and notes what was acknowledged.
    private static func work(_ log: SegmentLog, _ acked: inout Acked, _ random: inout SeededRandom) throws {
        acked.incarnation = log.incarnation
        for _ in 0..<Int(random.next() % 20) {
            var batch: [LogEntry] = []
            for _ in 0...Int(random.next() % 12) {
                var entry = LogEntry()
                entry.partition = UInt32(random.next() % 4)
                let size = Int(random.next() % (random.chance(0.1) ? 3000 : 200))
                entry.record = Data((0..<size).map { _ in UInt8(truncatingIfNeeded: random.next()) })
                batch.append(entry)
            }
            for (entry, result) in zip(batch, log.append(batch)) where !result.hasFailure && !result.unknown {
                acked.records[entry.partition, default: [:]][result.offset] = entry.record
            }
            if random.chance(0.3) {
                let partition = UInt32(random.next() % 4)
                var position = LogPosition()
                position.partition = partition
                position.offset = log.range(of: partition).end
                log.commit("group", [position])
                try log.saveCommitted()
            }
        }
    }

    /// What is wrong with the reopened log; nil when nothing is.
    private static func fault(_ log: SegmentLog, _ acked: Acked) throws -> String? {
        if let known = acked.incarnation, known != log.incarnation { return "another incarnation" }
        for partition in UInt32(0)..<4 {
            let end = log.range(of: partition).end
            var offset: UInt64 = 0
            var found: [UInt64: Data] = [:]
            while offset < end {
                var position = LogPosition()
                position.partition = partition
                position.offset = offset
                let entries = try log.read([position], maxBytes: 2000)
                for entry in entries {
                    if entry.offset != offset {
                        return "partition \(partition) jumps from \(offset) to \(entry.offset)"
                    }
                    found[offset] = entry.record
                    offset += 1
                }
                if entries.isEmpty { return "partition \(partition) has nothing at \(offset) of \(end)" }
            }
            for (offset, record) in acked.records[partition, default: [:]] where found[offset] != record {
                return "partition \(partition) lost or changed record \(offset)"
            }
        }
        return nil
    }

    /// A life of several power cuts; what went wrong, or nil.
    private static func life(seed: UInt64, ignoresSync: Bool) throws -> String? {
        let disk = SimulatedDisk()
        disk.setFaults { $0.ignoresSync = ignoresSync }
        var random = SeededRandom(seed: seed)
        var acked = Acked()
        for _ in 0..<5 {
            do throws(StoreOpenError) {
                let log: SegmentLog
                do { log = try open(disk, seed) } catch let error as StoreOpenError { throw error } catch {
                    return "\(error)"
                }
                do {
                    if let fault = try fault(log, acked) { return fault }
                    try work(log, &acked, &random)
                } catch { return "\(error)" }
            } catch { return error.message }
            if random.chance(0.2) { disk.killProcess() } else { disk.cutPower(using: &random) }
        }
        return nil
    }

    @Test func nothingAcknowledgedIsLost() throws {
        for seed in Self.seeds {
            let fault = try Self.life(seed: seed, ignoresSync: false)
            #expect(fault == nil, "seed \(seed): \(fault ?? "")")
        }
    }

    /// The same test, on a disk whose fdatasync does nothing, must find losses.
    @Test func aDiskThatDoesNotSyncIsFoundOut() throws {
        var caught = 0
        for seed in Self.seeds where try Self.life(seed: seed, ignoresSync: true) != nil { caught += 1 }
        #expect(caught * 2 > Self.seeds.count, "only \(caught) of \(Self.seeds.count) seeds found the loss")
    }
}
