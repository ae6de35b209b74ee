/// Calls that are answered once every part is known: requests carry arrays, their items go different ways and come back
/// at different times, and the answer lists them in the order asked. Slots that repeat or are unknown are ignored, so a
/// late answer does no harm.
public struct PartedCalls<Part: Sendable>: Sendable {
    /// One item of one call.
    public struct Slot: Hashable, Sendable {
        public let job: UInt64
        public let index: Int

        public init(job: UInt64, index: Int) {
            self.job = job
            self.index = index
        }
    }

    private struct Job: Sendable {
        let call: CallID
        var parts: [Part?]
        var missing: Int
    }

    private var jobs: [UInt64: Job] = [:]
    private var nextJob: UInt64 = 1
    /// Items not answered yet, over all calls: what limits count.
    public private(set) var missing = 0

    public init() {}

    /// Starts a call of `count` items, at least one; its slots are 0 ..< count of the returned job.
    public mutating func open(_ call: CallID, count: Int) -> UInt64 {
        let job = nextJob
        nextJob += 1
        jobs[job] = Job(call: call, parts: Array(repeating: nil, count: count), missing: count)
        missing += count
        return job
    }

    /// Fills a slot; the call and all of its parts, in order, when it was the last one.
    public mutating func fill(_ slot: Slot, _ part: Part) -> (call: CallID, parts: [Part])? {
        guard let index = jobs.index(forKey: slot.job), jobs.values[index].parts.indices.contains(slot.index),
            jobs.values[index].parts[slot.index] == nil
        else { return nil }
        jobs.values[index].parts[slot.index] = part
        jobs.values[index].missing -= 1
        missing -= 1
        guard jobs.values[index].missing == 0 else { return nil }
        let job = jobs.remove(at: index).value
        return (job.call, job.parts.compactMap { $0 })
    }
}
