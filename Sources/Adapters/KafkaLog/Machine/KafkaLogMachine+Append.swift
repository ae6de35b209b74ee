import Ports
import RPC
import Wire

extension KafkaLogMachine {
    /// First pause after a producer failed; doubles up to the last.
    private static let renewFirstMS: UInt32 = 300
    private static let renewMostMS: UInt32 = 5000

    /// Checks the entries and gathers them for the flush. Nothing that was gathered is dropped: an entry is refused
    /// here, with nothing of its call behind it in the log, or its delivery report decides.
    mutating func gather(_ id: CallID, _ request: LogAppend) -> [Action] {
        guard request.log == log else { return [.refuse(id, Self.unknownLog(request.log))] }
        if let producerFailure {
            return [.refuse(id, Failure(.storeUnavailable, "the log takes nothing now: \(producerFailure)"))]
        }
        let size = request.entries.reduce(0) { $0 + $1.record.count }
        // A call larger than the limit passes while nothing waits: it could never pass otherwise.
        let isOver =
            appends.records + request.entries.count > limits.queuedRecords || appends.bytes + size > limits.queuedBytes
        guard !isOver || appends.records == 0 else {
            let text = "\(appends.records) records, \(appends.bytes) bytes wait for Kafka"
            return [.refuse(id, Failure(.overloaded, text))]
        }
        let verdicts = request.entries.map(verdict)
        var slot = appends.nextSlot
        for (entry, verdict) in zip(request.entries, verdicts) where verdict == nil {
            gathered.append(KafkaRecord(slot: slot, partition: entry.partition, bytes: entry.record))
            slot += 1
        }
        return appends.add(id, request.entries, verdicts).map { [Self.reply($0)] } ?? []
    }

    private func verdict(_ entry: LogEntry) -> Failure? {
        if entry.partition >= partitions {
            return Failure(.malformedRequest, "there is no partition \(entry.partition)")
        }
        if entry.record.count > LogLimits.recordBytes {
            return Failure(.messageTooLarge, "a record has at most \(LogLimits.recordBytes) bytes")
        }
        return nil
    }

    mutating func produce(_ now: Instant) -> [Action] {
        guard !gathered.isEmpty else { return [] }
        let records = gathered
        gathered.removeAll(keepingCapacity: true)
        guard producerFailure == nil else { return refuse(records, now) }
        let going = lanes.pass(records, micros: now.micros)
        return going.isEmpty ? [] : [.output(.produce(going))]
    }

    private mutating func refuse(_ records: [KafkaRecord], _ now: Instant) -> [Action] {
        guard !records.isEmpty else { return [] }
        let failure = Failure(.storeUnavailable, "the log takes nothing now: \(producerFailure ?? "a record failed")")
        return settle(records.map { KafkaReport(slot: $0.slot, fate: .refused(failure)) }, now)
    }

    mutating func settle(_ reports: [KafkaReport], _ now: Instant) -> [Action] {
        var actions: [Action] = []
        var going: [KafkaRecord] = []
        for report in reports {
            if case .stored = report.fate { renewals = 0 }
            if let partition = appends.partition(of: report.slot) {
                // What was acknowledged is in this log: one that ends before it is another.
                if case .stored(let offset) = report.fate { saw(partition, end: offset + 1) }
                let behind = lanes.settle(report, partition: partition, micros: now.micros)
                going += behind.go
                actions += refuse(behind.refused, now)
            }
            guard let answer = appends.settle(report) else { continue }
            actions += answer.traces.map { .trace($0, hop: "log \(log)") }
            actions.append(Self.reply(answer))
        }
        return going.isEmpty ? actions : actions + [.output(.produce(going))]
    }

    private static func reply(_ answer: AppendTable.Answer) -> Action {
        var body = LogAppended()
        body.results = answer.results
        return .reply(answer.id, .logAppended(body))
    }

    /// What was under way is reported by the old producer, one by one. The new one starts after a pause, and whether it
    /// is the same log is looked at: a topic that was made again is the usual reason.
    mutating func producerFailed(_ life: UInt64, _ why: String, _ now: Instant) -> [Action] {
        guard life == producerLife, producerFailure == nil else { return [] }
        producerFailure = why
        let pause = min(Self.renewMostMS, Self.renewFirstMS << UInt32(min(renewals, 10)))
        renewals += 1
        let waited = lanes.reset()
        return produce(now) + refuse(waited, now) + [
            .warn("the Kafka producer failed and is renewed", ["log": log, "why": why, "after_ms": "\(pause)"]),
            .output(.verify(ends: seen)),
            .timer(Self.renewTimer, afterMS: pause),
        ]
    }

    mutating func renewProducer() -> [Action] {
        guard producerFailure != nil else { return [] }
        producerFailure = nil
        producerLife += 1
        return [.output(.renewProducer(life: producerLife))]
    }
}
