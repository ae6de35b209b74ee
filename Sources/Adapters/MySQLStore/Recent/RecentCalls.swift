import Foundation
import Ports
import RPC
import Wire

/// A call that is not answered yet: what has come of it so far.
struct OpenCall: Sendable {
    let id: CallID
    let deadline: UInt64
    let payload: Payload
    /// Jobs, or commits, that are to come.
    var left = 0
    var claims: [BucketClaimResult] = []
    var commits: [BucketCommitResult] = []
    var found = WriterFound()
    var pages: [RowsPage] = []
    var heads: [HeadState?] = []
    var marks = HeadMarks()
    /// Of what is answered as a whole.
    var failure: Failure?
}

/// What a shard is doing.
struct OpenJob: Sendable {
    let call: UInt64
    let work: ShardJob.Work
    let place: ShardJob.Place
    /// Places of its items in the call; of a look-up's keys, and of its conversations.
    let items: [Int]
    var others: [Int] = []
    /// For a commit: whose each of its buckets is.
    var commits: [QueuedCommit] = []
    var tries = 0

    /// It reads: asking twice is asking once.
    var canBeAskedAgain: Bool {
        switch work {
        case .rows, .heads: true
        default: false
        }
    }
}

/// A bucket's commit that waits for its lane.
struct QueuedCommit: Sendable {
    let call: UInt64
    let item: Int
    let commit: BucketCommit
    let deadline: UInt64
}

extension MySQLRecentMachine {
    static var nowhere: Failure { Failure(.forbidden, "the map of the shards does not have this bucket") }

    private func place(_ shard: Int, _ bucket: UInt32) -> ShardJob.Place {
        .writer(shard: shard, lane: Int(bucket) % config.writers)
    }

    // MARK: writing

    mutating func commit(_ id: CallID, _ request: StoreCommit, _ deadline: UInt64, _ map: ShardMap) -> [Action] {
        var call = OpenCall(id: id, deadline: deadline, payload: .storeCommit(StoreCommit()))
        call.commits = request.buckets.map { commit in
            var result = BucketCommitResult()
            result.bucket = commit.bucket
            result.failure = Self.nowhere
            return result
        }
        var queued: [(Int, BucketCommit, ShardJob.Place)] = []
        for (item, commit) in request.buckets.enumerated() {
            guard let shard = map.shard(of: commit.bucket) else { continue }
            queued.append((item, commit, place(shard, commit.bucket)))
        }
        call.left = queued.count
        if queued.isEmpty { return [answer(call)] }
        let number = open(call)
        for (item, commit, place) in queued {
            queues[place, default: []].append(
                QueuedCommit(call: number, item: item, commit: commit, deadline: deadline))
        }
        return []
    }

    /// One transaction for all that waits, on every lane that has none under way.
    mutating func startCommits(_ now: Instant) -> [Action] {
        var actions: [Action] = []
        for place in queues.keys.sorted() where !busy.contains(place) {
            var waiting = queues[place] ?? []
            let late = waiting.filter { $0.deadline <= now.micros }
            waiting.removeAll { $0.deadline <= now.micros }
            for item in late {
                var result = BucketCommitResult()
                result.bucket = item.commit.bucket
                result.failure = Failure(.deadlineExceeded, "the shard was busy until the deadline")
                actions += fill(item, result)
            }
            var rows = 0
            var bytes = 0
            let batch = waiting.prefix { item in
                let isFirst = rows == 0 && bytes == 0
                rows += item.commit.rows.count
                bytes += item.commit.rows.reduce(0) { $0 + $1.message.count }
                return isFirst || rows <= config.rowsPerCommit && bytes <= config.bytesPerCommit
            }
            queues[place] = batch.count == waiting.count ? nil : Array(waiting.dropFirst(batch.count))
            guard !batch.isEmpty else { continue }
            busy.insert(place)
            var job = OpenJob(call: 0, work: .commit(batch.map(\.commit)), place: place, items: [])
            job.commits = Array(batch)
            // Begun or not, it is answered: whoever waits longest decides how long it may wait for its connection.
            actions.append(send(job, batch.map(\.deadline).max() ?? now.micros))
        }
        return actions
    }

    mutating func committed(_ job: OpenJob, _ result: ShardAnswer.Result) -> [Action] {
        var actions: [Action] = []
        for (place, item) in job.commits.enumerated() {
            var answer = BucketCommitResult()
            answer.bucket = item.commit.bucket
            switch result {
            case .committed(let results) where results.count == job.commits.count: answer = results[place]
            case .failed(let failure): answer.failure = failure
            default: answer.failure = Failure(.internalError, "the shard answered something else")
            }
            actions += fill(item, answer)
        }
        return actions
    }

    private mutating func fill(_ item: QueuedCommit, _ result: BucketCommitResult) -> [Action] {
        guard var call = calls.removeValue(forKey: item.call) else { return [] }
        call.commits[item.item] = result
        call.left -= 1
        if call.left == 0 { return [answer(call)] }
        calls[item.call] = call
        return []
    }

    mutating func claim(_ id: CallID, _ request: BucketClaims, _ deadline: UInt64, _ map: ShardMap) -> [Action] {
        var call = OpenCall(id: id, deadline: deadline, payload: .bucketClaims(request))
        call.claims = request.claims.map { claim in
            var result = BucketClaimResult()
            result.bucket = claim.bucket
            result.failure = Self.nowhere
            return result
        }
        let parts = parts(request.claims.map { claim in map.shard(of: claim.bucket).map { place($0, claim.bucket) } })
        return ask(call, parts) { items in .claim(items.map { request.claims[$0] }) }
    }

    mutating func lookup(_ id: CallID, _ request: WriterLookup, _ deadline: UInt64, _ map: ShardMap) -> [Action] {
        var call = OpenCall(id: id, deadline: deadline, payload: .writerLookup(request))
        call.found.hits = Array(repeating: StoredRow(), count: request.keys.count)
        call.found.heads = Array(repeating: Head(), count: request.conversations.count)
        let keys = request.keys.map { map.shard(of: $0.bucket) }
        let names = request.conversations.map { map.shard(of: $0.bucket) }
        if keys.contains(nil) || names.contains(nil) { return [.refuse(id, Self.nowhere)] }
        let shards = Set((keys + names).compactMap { $0 }).sorted()
        call.left = shards.count
        if shards.isEmpty { return [answer(call)] }
        let number = open(call)
        return shards.map { shard in
            var part = WriterLookup()
            let items = keys.indices.filter { keys[$0] == shard }
            let others = names.indices.filter { names[$0] == shard }
            part.keys = items.map { request.keys[$0] }
            part.conversations = others.map { request.conversations[$0] }
            var job = OpenJob(call: number, work: .lookup(part), place: .reader(shard: shard), items: items)
            job.others = others
            return send(job, deadline)
        }
    }

    // MARK: reading

    mutating func rows(_ id: CallID, _ queries: [RowsQuery], _ deadline: UInt64, _ map: ShardMap) -> [Action] {
        var request = ReadRows()
        request.queries = queries
        var call = OpenCall(id: id, deadline: deadline, payload: .readRows(request))
        call.pages = queries.map { _ in
            var page = RowsPage()
            page.failure = Self.nowhere
            return page
        }
        let buckets = queries.map { map.bucket(app: $0.appID, conversation: $0.conversation) }
        return ask(call, parts(buckets.map { reader($0, map) })) { items in
            .rows(items.map { queries[$0] }, buckets: items.compactMap { buckets[$0] })
        }
    }

    mutating func heads(_ id: CallID, _ request: ReadHeads, _ deadline: UInt64, _ map: ShardMap) -> [Action] {
        var call = OpenCall(id: id, deadline: deadline, payload: .readHeads(request))
        call.heads = Array(repeating: nil, count: request.queries.count)
        call.marks = HeadMarks(request.shardMarks)
        let buckets = request.queries.map { map.bucket(app: $0.appID, conversation: $0.conversation) }
        var parts = parts(buckets.map { reader($0, map) })
        // Marks are wanted even for no conversation at all.
        if parts.isEmpty { parts = [(.reader(shard: 0), [])] }
        return ask(call, parts) { items in
            .heads(
                items.map { request.queries[$0] }, buckets: items.compactMap { buckets[$0] }, marks: request.shardMarks)
        }
    }

    private func reader(_ bucket: UInt32?, _ map: ShardMap) -> ShardJob.Place? {
        guard let bucket else { return .reader(shard: 0) }
        return map.shard(of: bucket).map { .reader(shard: $0) }
    }

    private func parts(_ places: [ShardJob.Place?]) -> [(ShardJob.Place, [Int])] {
        var items: [ShardJob.Place: [Int]] = [:]
        for (index, place) in places.enumerated() { if let place { items[place, default: []].append(index) } }
        return items.keys.sorted().map { ($0, items[$0] ?? []) }
    }

    private mutating func ask(
        _ call: OpenCall, _ parts: [(ShardJob.Place, [Int])], _ work: ([Int]) -> ShardJob.Work
    ) -> [Action] {
        var call = call
        call.left = parts.count
        if parts.isEmpty { return [answer(call)] }
        let number = open(call)
        return parts.map { place, items in
            send(OpenJob(call: number, work: work(items), place: place, items: items), call.deadline)
        }
    }

    /// Asks for the same items where a newer map says that they are.
    mutating func askElsewhere(_ job: OpenJob, _ call: OpenCall, _ map: ShardMap) -> [Action] {
        var again: [(ShardJob.Work, ShardJob.Place, [Int])] = []
        switch job.work {
        case .rows(let queries, _):
            let buckets = queries.map { map.bucket(app: $0.appID, conversation: $0.conversation) }
            again = parts(buckets.map { reader($0, map) }).map { place, items in
                (.rows(items.map { queries[$0] }, buckets: items.compactMap { buckets[$0] }), place, items)
            }
        case .heads(let queries, _, let marks):
            let buckets = queries.map { map.bucket(app: $0.appID, conversation: $0.conversation) }
            again = parts(buckets.map { reader($0, map) }).map { place, items in
                let asked = items.map { queries[$0] }
                return (.heads(asked, buckets: items.compactMap { buckets[$0] }, marks: marks), place, items)
            }
        default: break
        }
        guard !again.isEmpty else { return fill(job, .failed(Self.nowhere)) }
        calls[job.call]?.left += again.count - 1
        return again.map { work, place, items in
            var next = OpenJob(call: job.call, work: work, place: place, items: items.map { job.items[$0] })
            next.tries = job.tries
            return send(next, call.deadline)
        }
    }

    // MARK: answers

    /// Puts a job's results into its call, and answers the call when it was the last one.
    mutating func fill(_ job: OpenJob, _ result: ShardAnswer.Result) -> [Action] {
        guard var call = calls.removeValue(forKey: job.call) else { return [] }
        switch result {
        case .claimed(let results):
            for (item, result) in zip(job.items, results) { call.claims[item] = result }
        case .found(let found):
            if found.hasFailure { call.failure = found.failure }
            for (item, hit) in zip(job.items, found.hits) { call.found.hits[item] = hit }
            for (item, head) in zip(job.others, found.heads) { call.found.heads[item] = head }
        case .pages(let pages):
            for (item, page) in zip(job.items, pages) { call.pages[item] = page }
        case .heads(let read):
            if read.hasFailure { call.failure = read.failure }
            for (item, state) in zip(job.items, read.heads) { call.heads[item] = state }
            call.marks.merge(HeadMarks(read.shardMarks))
        case .failed(let failure):
            call.failure = failure
            for item in job.items where item < call.claims.count { call.claims[item].failure = failure }
            for item in job.items where item < call.pages.count { call.pages[item].failure = failure }
        case .committed, .stepped, .map:
            call.failure = Failure(.internalError, "the shard answered something else")
        }
        call.left -= 1
        if call.left == 0 { return [answer(call)] }
        calls[job.call] = call
        return []
    }

    private func answer(_ call: OpenCall) -> Action {
        switch call.payload {
        case .storeCommit:
            var answer = StoreCommitted()
            answer.results = call.commits
            return .reply(call.id, .storeCommitted(answer))
        case .bucketClaims:
            var answer = BucketClaimed()
            answer.results = call.claims
            return .reply(call.id, .bucketClaimed(answer))
        case .writerLookup:
            var answer = call.found
            if let failure = call.failure {
                answer = WriterFound()
                answer.failure = failure
            }
            return .reply(call.id, .writerFound(answer))
        case .readRows:
            var answer = RowsRead()
            answer.pages = call.pages
            return .reply(call.id, .rowsRead(answer))
        default: return headsAnswer(call)
        }
    }

    /// The first queries, as many as were answered and fit: a shard that could not answer all of its own ends them.
    private func headsAnswer(_ call: OpenCall) -> Action {
        var answer = HeadsRead()
        if let failure = call.failure {
            answer.failure = failure
            return .reply(call.id, .headsRead(answer))
        }
        var bytes = 0
        for case let state? in call.heads.prefix(while: { $0 != nil }) {
            bytes += state.last.message.count
            if bytes > RowLimits.answerBytes, !answer.heads.isEmpty { break }
            answer.heads.append(state)
        }
        answer.shardMarks = call.marks.data
        return .reply(call.id, .headsRead(answer))
    }
}
