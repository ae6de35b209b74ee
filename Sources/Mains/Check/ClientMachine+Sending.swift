import Foundation
import Identity
import NIOCore
import Wire

extension ClientMachine {
    /// The workload wants `count` messages sent; what exceeds the outbox is not taken. Returns how many were.
    mutating func send(
        _ count: Int, conversation: Int, now: UInt64, history: inout History, actions: inout [LinkAction]
    ) -> Int {
        guard let index = position[conversation] else { return 0 }
        let taken = min(count, config.outboxLimit - threads[index].outbox.count)
        guard taken > 0 else { return 0 }
        for _ in 0..<taken {
            threads[index].outbox.append(
                Outgoing(number: history.offered(device: device, conversation: conversation)))
        }
        pump(index, now, &history, &actions)
        return taken
    }

    /// Writes what may be written: in order, so many at a time, nothing while the order is broken.
    mutating func pump(_ index: Int, _ now: UInt64, _ history: inout History, _ actions: inout [LinkAction]) {
        guard link.isOnline, threads[index].broken == nil, threads[index].resendAt == nil else { return }
        while threads[index].written < threads[index].outbox.count, requests.count < config.requestsInFlight {
            let room = config.pipelined - threads[index].inFlight
            guard room > 0 else { return }
            let waiting = threads[index].outbox.count - threads[index].written
            let most = min(config.itemsPerRequest, waiting, room)
            // Mostly one message a request: that is what people's clients do.
            let items = random.chance(0.7) ? 1 : Int.random(in: 1...most, using: &random)
            writeItems(index, items, now, &history, &actions)
        }
    }

    private mutating func writeItems(
        _ index: Int, _ count: Int, _ now: UInt64, _ history: inout History, _ actions: inout [LinkAction]
    ) {
        let first = threads[index].written
        var request = SendRequest()
        request.conversation = threads[index].name
        var numbers: [Int] = []
        for place in first..<(first + count) {
            let number = threads[index].outbox[place].number
            if threads[index].outbox[place].id.isEmpty {
                threads[index].outbox[place].id = Roster.messageID(
                    number, timeMS: link.serverTimeMS(now), random: random.next())
            }
            var item = SendItem()
            item.clientMsgID = threads[index].outbox[place].id
            item.kind = .contentText
            item.content = Data(roster.text(number).utf8)
            request.items.append(item)
            numbers.append(number)
            history.written(number, now: now)
        }
        threads[index].written += count
        threads[index].inFlight += count
        let turn = threads[index].turn
        self.request(
            UInt16(WellKnownService.im), 1, .send(conversation: index, turn: turn, numbers: numbers),
            ordered: (threads[index].name, turn), request.buffer, now, &actions)
    }

    mutating func sendAnswered(
        _ index: Int, _ turn: UInt16, _ numbers: [Int], _ response: SendResponse?, _ now: UInt64,
        _ history: inout History, _ actions: inout [LinkAction]
    ) {
        settleFlight(index, turn, numbers.count)
        var broken: Failure?
        for (place, number) in numbers.enumerated() {
            let results = response?.results ?? []
            let result = results.indices.contains(place) ? results[place] : SendResult()
            switch result.outcome {
            case .accepted:
                history.accepted(number, now: now)
                threads[index].breaks = 0
                resolve(index, number)
            case .refused where !result.failure.retryable:
                history.refused(number, reason: result.failure.reason)
                resolve(index, number)
            default:
                history.doubted(number)
                broken = broken ?? result.failure
            }
        }
        if let broken { breakOrder(index, turn, broken) }
        resendWhenAnswered(index, now)
        pump(index, now, &history, &actions)
    }

    mutating func sendFailed(
        _ index: Int, _ turn: UInt16, _ numbers: [Int], _ failure: Failure, _ now: UInt64,
        _ history: inout History, _ actions: inout [LinkAction]
    ) {
        settleFlight(index, turn, numbers.count)
        for number in numbers {
            if failure.retryable {
                history.doubted(number)
            } else {
                history.refused(number, reason: failure.reason)
                resolve(index, number)
            }
        }
        if failure.retryable { breakOrder(index, turn, failure) }
        resendWhenAnswered(index, now)
        pump(index, now, &history, &actions)
    }

    /// Answers to an earlier turn free no room: that turn's places were given back when it ended.
    private mutating func settleFlight(_ index: Int, _ turn: UInt16, _ count: Int) {
        if turn == threads[index].turn { threads[index].inFlight = max(0, threads[index].inFlight - count) }
    }

    private mutating func resolve(_ index: Int, _ number: Int) {
        guard let place = threads[index].outbox.firstIndex(where: { $0.number == number }) else { return }
        threads[index].outbox.remove(at: place)
        if place < threads[index].written { threads[index].written -= 1 }
    }

    /// Stops writing. What an earlier turn's frames are told does not matter any more.
    private mutating func breakOrder(_ index: Int, _ turn: UInt16, _ failure: Failure) {
        guard turn == threads[index].turn, threads[index].resendAt == nil else { return }
        let asked = UInt64(min(failure.retryAfterMs, 10_000)) * 1000
        threads[index].broken = max(threads[index].broken ?? 0, asked)
    }

    /// Everything unresolved goes out again with the next turn, a moment after the last frame of the broken one was
    /// answered. One that never is costs the connection.
    private mutating func resendWhenAnswered(_ index: Int, _ now: UInt64) {
        guard let asked = threads[index].broken, threads[index].inFlight == 0 else { return }
        let wait = min(config.resendMost, config.resendFirst << min(threads[index].breaks, 8))
        threads[index].broken = nil
        threads[index].breaks += 1
        threads[index].resendAt = now + max(pause(wait, wait / 4), asked)
    }

    mutating func nextTurn(_ index: Int) {
        threads[index].resendAt = nil
        threads[index].turn &+= 1
        threads[index].written = 0
        threads[index].inFlight = 0
    }
}
