import Foundation
import Machinery
import RPC
import Wire

/// The records of one StoreMessages being put together.
private struct StoreCall {
    var groups: [UInt64] = []
    var records: [LogRecord] = []
    var bytes = 0
}

extension IMMachine {
    /// Second station: everything that became ready goes to MsgProxy together.
    mutating func store(now: Instant) -> [RoleAction<Never>] {
        guard !ready.isEmpty else { return [] }
        var actions: [RoleAction<Never>] = []
        var call = StoreCall()
        for number in ready {
            // Taken out while it is changed: a second reference would copy its items.
            guard var group = groups.removeValue(forKey: number) else { continue }
            if group.deadline <= now.micros {
                group.refuseOpen(Failure(.deadlineExceeded, "not carried out in time"))
            }
            takeRate(&group, now: now)
            group.cut()
            let records = records(&group, now: now)
            groups[number] = group
            if records.isEmpty {
                actions += close(number)
                continue
            }
            let bytes = records.reduce(0) { $0 + $1.message.count + Self.envelopeBytes }
            let isFull =
                call.records.count + records.count > config.recordsPerCall || call.bytes + bytes > config.bytesPerCall
            if !call.groups.isEmpty, isFull { actions.append(send(&call)) }
            call.groups.append(number)
            call.records += records
            call.bytes += bytes
        }
        ready = []
        if !call.groups.isEmpty { actions.append(send(&call)) }
        if !doubled.isEmpty {
            call.records = doubled
            doubled = []
            actions.append(send(&call))
        }
        return actions
    }

    /// Names, ids and numbers of a record, about.
    private static let envelopeBytes = 256

    private mutating func send(_ call: inout StoreCall) -> RoleAction<Never> {
        let token = number()
        asked[token] = .storing(call.groups)
        var body = StoreMessages()
        body.records = call.records
        call = StoreCall()
        return .call(token, .any(.msgProxy), .storeMessages(body), timeoutMS: config.timeoutMS)
    }

    private mutating func takeRate(_ group: inout SendGroup, now: Instant) {
        let ref = ConversationRef(app: group.caller.appID, conversation: group.conversation)
        var rate =
            rates[ref]
            ?? TokenBucket(
                perSecond: config.messagesPerSecond, burst: config.messagesPerSecond, nowMicros: now.micros)
        for index in group.items.indices where group.items[index].isOpen {
            guard rate.take(nowMicros: now.micros) else {
                let text = "over \(Int(config.messagesPerSecond)) messages a second"
                group.items[index].verdict = .refused(Failure(.rateLimited, text, retryAfterMS: 1000))
                break
            }
        }
        rates[ref] = rate
    }

    private mutating func records(_ group: inout SendGroup, now: Instant) -> [LogRecord] {
        var records: [LogRecord] = []
        for index in group.items.indices where group.items[index].isOpen {
            guard let record = group.record(group.items[index], now: now) else {
                group.items[index].verdict = .refused(Failure(.internalError, "the message could not be encoded"))
                group.cut()
                break
            }
            group.items[index].sentMS = record.timeMs
            records.append(record)
        }
        if fault.isArmed { spoil(&records, &group) }
        return records
    }

    /// Third station: MsgProxy has answered for these groups' open items, in order.
    mutating func settle(_ numbers: [UInt64], _ result: CallResult) -> [RoleAction<Never>] {
        let open = numbers.reduce(0) { sum, number in sum + (groups[number]?.items.filter(\.isOpen).count ?? 0) }
        var results: [SendResult]?
        var verdict = SendGroup.Verdict.unknown(Failure(.outcomeUnknown, "perhaps stored; send it again"))
        switch result {
        case .answered(.storeOutcomes(let outcomes)) where outcomes.results.count == open: results = outcomes.results
        case .refused(let failure): verdict = .refused(failure.asRetryable)
        case .answered, .unknown: break
        }
        var actions: [RoleAction<Never>] = []
        var position = 0
        for number in numbers {
            guard var group = groups.removeValue(forKey: number) else { continue }
            for index in group.items.indices where group.items[index].isOpen {
                group.items[index].verdict = results.map { Self.verdict(of: $0[position]) } ?? verdict
                position += 1
            }
            group.cut()
            groups[number] = group
            actions += close(number)
        }
        return actions
    }

    private static func verdict(of result: SendResult) -> SendGroup.Verdict {
        switch result.outcome {
        case .accepted: .accepted
        case .refused: .refused(result.failure)
        case .unknown, .UNRECOGNIZED:
            .unknown(
                result.hasFailure ? result.failure : Failure(.outcomeUnknown, "perhaps stored; send it again"))
        }
    }

    private mutating func close(_ number: UInt64) -> [RoleAction<Never>] {
        guard let group = groups.removeValue(forKey: number) else { return [] }
        itemsHeld -= group.items.count
        batches.change(group.batch) { batch in
            for (index, reply) in group.replies() { batch.replies[index] = reply }
            batch.open -= group.calls.count
        }
        return finish(group.batch)
    }

    /// The mistakes that a test asked for. Records and open items correspond one to one, so a record that is dropped
    /// takes its verdict with it, and a doubled one gets another id, which no dedup can see through.
    private mutating func spoil(_ records: inout [LogRecord], _ group: inout SendGroup) {
        guard let last = records.indices.last else { return }
        if fault.fires(.miscountOne) { records[last].control.toggle() }
        if last > 0, fault.fires(.swapTwo) { records.swapAt(last - 1, last) }
        if fault.fires(.doubleOne) {
            var copy = records[last]
            copy.clientMsgID[copy.clientMsgID.endIndex - 1] ^= 1
            doubled.append(copy)
        }
        if fault.fires(.dropOne), let index = group.items.lastIndex(where: \.isOpen) {
            records.removeLast()
            group.items[index].verdict = .accepted
        }
    }
}

extension Failure {
    /// The same failure, but one that the client answers by sending again: a neighbour's refusal says nothing about
    /// the message itself.
    var asRetryable: Failure {
        retryable ? self : Failure(.serviceUnavailable, "refused on the way: \(reason)")
    }
}
