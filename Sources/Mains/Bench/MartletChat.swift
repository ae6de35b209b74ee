import Wire

/// Chat over Martlet's own protocol: ordered sends of one item each; what was accepted is stored, what is pushed has
/// arrived, what is to be repeated is repeated in order and with the next turn.
final class MartletChat: ChatTraffic, FrameUser {
    let name = "martlet"
    weak var run: ChatRun?
    private let bytes: Int
    private let accessPath: String
    private let martlet = MartletDialect()
    /// Told apart from what earlier runs left in the same conversations.
    private let runNumber = UInt64.random(in: 0..<1 << 42)
    private var pairs: [Pair] = []
    private var templates: [SendTemplate] = []

    init(bytes: Int, accessPath: String) {
        self.bytes = bytes
        self.accessPath = accessPath
        martlet.user = self
    }

    var dialect: any Dialect { martlet }

    func tokens(for users: [String]) throws(BenchError) -> [String] {
        try Access.load(accessPath).tokens(for: users)
    }

    func prepare(_ pairs: [Pair]) throws(BenchError) {
        self.pairs = pairs
        for pair in pairs {
            let conversation = "p:\(pair.sender.user)|\(pair.receiver.user)"
            templates.append(try SendTemplate(conversation: conversation, contentBytes: bytes))
        }
    }

    func timeMS(now: UInt64) -> UInt64 { martlet.serverTimeMS(now: now) }

    func write(_ number: UInt32, of pair: Pair) {
        pair.unanswered += 1
        let tag = MessageTag(timeMS: pair[number].timeMS, run: runNumber, number: number)
        templates[pair.index].append(requestID: number, turn: pair.turn, tag: tag, to: &pair.sender.out)
    }

    // MARK: - Receiving

    func received(_ type: FrameType, _ frame: UnsafeRawBufferPointer, on link: Link, of fleet: Fleet) {
        guard let run else { return }
        let pair = pairs[link.index / 2]
        switch type {
        case .push, .seqNotice:
            let arrival = martlet.arrived(frame, on: link, of: fleet)
            if arrival == .fresh, type == .push { pushed(frame, pair, link, run) }
            if arrival == .gap { run.count("push_id_gap") }
        case .response: answered(frame, pair, run)
        case .failure: failed(frame, pair, run)
        case .syncNeeded: run.count("sync_needed")
        default: break
        }
    }

    private func pushed(_ frame: UnsafeRawBufferPointer, _ pair: Pair, _ link: Link, _ run: ChatRun) {
        guard let id = FrameScan.messageID(push: frame) else { return run.count("unreadable_push") }
        guard link === pair.receiver, let number = MessageTag.number(frame, at: id.lowerBound, run: runNumber)
        else { return }
        run.received(number, of: pair)
    }

    private func answered(_ frame: UnsafeRawBufferPointer, _ pair: Pair, _ run: ChatRun) {
        let number = FrameScan.number(frame)
        pair.unanswered = max(0, pair.unanswered - 1)
        guard pair.isOpen(number) else { return }
        guard FrameScan.accepted(response: frame) else {
            let response = try? SendResponse(serializedBytes: Array(frame.dropFirst(5)))
            return settle(number, pair, response?.results.first?.failure ?? Failure(), run)
        }
        run.acknowledged(number, of: pair)
    }

    private func failed(_ frame: UnsafeRawBufferPointer, _ pair: Pair, _ run: ChatRun) {
        let number = FrameScan.number(frame)
        pair.unanswered = max(0, pair.unanswered - 1)
        guard pair.isOpen(number) else { return }
        settle(number, pair, (try? Failure(serializedBytes: Array(frame.dropFirst(5)))) ?? Failure(), run)
    }

    /// A send that was not accepted: again when that may help, else an error.
    private func settle(_ number: UInt32, _ pair: Pair, _ failure: Failure, _ run: ChatRun) {
        guard failure.retryable else {
            return run.refused(number, of: pair, why: failure.reason.isEmpty ? "refused" : failure.reason)
        }
        let wait = failure.retryAfterMs > 0 ? UInt64(failure.retryAfterMs) * 1000 : nil
        // What is only behind the broken one has nothing to wait for by itself.
        run.sendAgain(number, of: pair, afterMicros: wait, behindAnother: failure.isCode(.resendInOrder))
    }
}
