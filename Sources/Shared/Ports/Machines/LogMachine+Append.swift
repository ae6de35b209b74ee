import RPC
import Wire

extension LogMachine {
    /// Checks the entries and gathers them for the flush.
    mutating func gather(_ id: CallID, _ request: LogAppend, _ now: Instant) -> [RoleAction<Never>] {
        guard var log = logs.removeValue(forKey: request.log) else {
            return [.refuse(id, Self.unknownLog(request.log))]
        }
        var places: [Result<Int, Failure>] = []
        places.reserveCapacity(request.entries.count)
        for entry in request.entries {
            if entry.partition >= log.store.partitions {
                places.append(.failure(Failure(.malformedRequest, "there is no partition \(entry.partition)")))
            } else if entry.record.count > LogLimits.recordBytes {
                let limit = LogLimits.recordBytes
                places.append(.failure(Failure(.messageTooLarge, "a record has at most \(limit) bytes")))
            } else {
                places.append(.success(log.gathered.count))
                log.gathered.append(entry)
                log.gatheredBytes += entry.record.count
            }
        }
        pending.append(PendingAppend(id: id, log: request.log, places: places))
        let isFull = log.gatheredBytes >= Limits.gatherBytes
        logs[request.log] = log
        return isFull ? write() : []
    }

    /// Writes what was gathered, one durable batch per log, and answers.
    mutating func write() -> [RoleAction<Never>] {
        guard !pending.isEmpty else { return [] }
        var actions: [RoleAction<Never>] = []
        var results: [String: [LogAppendResult]] = [:]
        for name in logs.keys.sorted() where logs[name]?.gathered.isEmpty == false {
            guard var log = logs.removeValue(forKey: name) else { continue }
            let answers = log.store.append(log.gathered)
            if let failed = answers.first(where: { $0.hasFailure }), !log.complained {
                actions.append(.warn("log append failed", ["log": name, "why": failed.failure.message]))
            }
            log.complained = answers.contains { $0.hasFailure }
            log.hasNews = answers.contains { !$0.hasFailure && !$0.unknown }
            for (entry, answer) in zip(log.gathered, answers)
            where !entry.traceID.isEmpty && !answer.hasFailure && !answer.unknown {
                actions.append(.trace(entry.traceID, hop: "log \(name)"))
            }
            results[name] = answers
            log.gathered.removeAll(keepingCapacity: true)
            log.gatheredBytes = 0
            logs[name] = log
        }
        for call in pending {
            var answer = LogAppended()
            let own = results[call.log, default: []]
            answer.results = call.places.map { place in
                switch place {
                case .success(let index): return own[index]
                case .failure(let failure):
                    var result = LogAppendResult()
                    result.failure = failure
                    return result
                }
            }
            actions.append(.reply(call.id, .logAppended(answer)))
        }
        pending.removeAll(keepingCapacity: true)
        return actions
    }

    mutating func flush(_ now: Instant) -> [RoleAction<Never>] {
        var actions: [RoleAction<Never>] = []
        if !pending.isEmpty {
            if writeArmed { return [] }
            let since = now.micros - min(now.micros, lastWriteMicros)
            if since < UInt64(writeEveryMS) * 1000 {
                writeArmed = true
                return [.timer(Self.writeTimer, afterMS: max(1, writeEveryMS - UInt32(since / 1000)))]
            }
            lastWriteMicros = now.micros
            actions = write()
        }
        for name in logs.keys.sorted() where logs[name]?.hasNews == true {
            guard var log = logs.removeValue(forKey: name) else { continue }
            log.hasNews = false
            for group in log.parked.keys.sorted() {
                for member in log.parked[group, default: [:]].keys.sorted() {
                    guard let parked = log.parked[group]?[member], Self.hasRecords(log, parked.fetch) else { continue }
                    log.parked[group]?[member] = nil
                    actions.append(Self.answer(log, parked.id, parked.fetch))
                }
            }
            logs[name] = log
        }
        return actions
    }
}
