import Identity
import Ports
import RPC
import Wire

/// Port role `hot` over Redis. A put is one script call per partition and claim, a read one per partition and some
/// queries, all of them under way together; the machine holds no rows.
///
/// Isolation: any lane.
public struct RedisHotMachine: RoleMachine {
    public static var role: RoleName { .hotStore }
    public typealias Input = RedisResponse
    public typealias Output = RedisRequest
    public typealias Action = RoleAction<RedisRequest>

    private enum Job: Sendable {
        case put(CallID, count: Int, items: [[Int]])
        case read(CallID, [RowsQuery], items: [[Int]])
    }

    private let config: RedisHotConfig
    private let tags: PartitionTags
    private var jobs: [UInt64: Job] = [:]
    private var nextJob: UInt64 = 1
    /// Fewer bytes than this are no page.
    private static let leastPageBytes = 64 << 10

    public init(config: RedisHotConfig = RedisHotConfig()) {
        self.config = config
        tags = PartitionTags(count: config.partitions)
    }

    /// The scripts that its client has to know.
    public static var scripts: [RedisScript] { HotScripts.all }

    public mutating func on(_ event: RoleEvent<RedisResponse>, now: Instant) -> [Action] {
        switch event {
        case .call(let id, .hotPut(let request), let deadline): return put(id, request, deadline, now)
        case .call(let id, .readRows(let request), let deadline): return read(id, request.queries, deadline, now)
        case .call(let id, let payload, _):
            return [.refuse(id, Failure(.noSuchMethod, "the hot store does not answer payload \(payload.kind)"))]
        case .input(let response):
            switch jobs.removeValue(forKey: response.id) {
            case .put(let id, let count, let items): return wasPut(id, count, items, response.results)
            case .read(let id, let queries, let items): return wasRead(id, queries, items, response.results)
            case nil: return []
            }
        case .start, .reply, .timer, .flush: return []
        }
    }

    private mutating func send(
        _ job: Job, _ commands: [RedisCommand], _ deadline: UInt64, _ timeoutMS: UInt64, _ now: Instant
    ) -> [Action] {
        let id = nextJob
        nextJob += 1
        jobs[id] = job
        let latest = min(deadline, now.micros + timeoutMS * 1000)
        return [.output(RedisRequest(id: id, commands: commands, deadline: latest))]
    }

    private func command(_ script: RedisScript, _ partition: Int) -> RedisCommand {
        var arguments = RedisArguments()
        arguments.add("\(config.prefix)h{\(tags.tags[partition])}")
        return RedisCommand(.script(script, withRun: false), slot: tags.slots[partition], arguments)
    }

    private func partition(_ app: String, _ conversation: String) -> Int {
        Int(truncatingIfNeeded: StableHash.of(app, conversation) % UInt64(tags.count))
    }

    // MARK: putting

    /// Rows that go into one call: the same partition, the same claim.
    private struct Batch {
        let partition: Int
        let fence: Int
        /// Names in the order in which they first come, and the rows of each.
        var names: [String] = []
        var rows: [String: [Int]] = [:]
    }

    private struct BatchKey: Hashable {
        let partition: Int
        let fence: Int
    }

    private mutating func put(_ id: CallID, _ request: HotPut, _ deadline: UInt64, _ now: Instant) -> [Action] {
        let encoded = request.rows.map(HotRow.encode)
        let batches = batches(request, encoded)
        guard !batches.isEmpty else { return [.reply(id, .done(Done()))] }
        let commands = batches.map { batch in
            var command = command(HotScripts.put, batch.partition)
            if batch.fence < request.fences.count {
                command.arguments.add(request.fences[batch.fence].bucket)
                command.arguments.add(request.fences[batch.fence].epoch)
            } else {
                command.arguments.add("")
                command.arguments.add("0")
            }
            command.arguments.add(config.rows)
            command.arguments.add(config.slackRows)
            command.arguments.add(config.keepMS)
            command.arguments.add(config.keepMS)
            for name in batch.names {
                let rows = batch.rows[name] ?? []
                command.arguments.add(name)
                command.arguments.add(rows.count)
                for row in rows { command.arguments.add(bytes: encoded[row] ?? []) }
            }
            return command
        }
        let items = batches.map { batch in batch.names.flatMap { batch.rows[$0] ?? [] } }
        return send(
            .put(id, count: request.rows.count, items: items), commands, deadline, config.writeTimeoutMS, now)
    }

    private func batches(_ request: HotPut, _ encoded: [[UInt8]?]) -> [Batch] {
        var batches: [Batch] = []
        var places: [BatchKey: Int] = [:]
        var fence = 0
        var left = request.fences.first.map { Int($0.rows) } ?? 0
        for (index, row) in request.rows.enumerated() {
            while fence < request.fences.count, left == 0 {
                fence += 1
                left = fence < request.fences.count ? Int(request.fences[fence].rows) : 0
            }
            left -= 1
            guard encoded[index] != nil else { continue }
            let key = BatchKey(partition: partition(row.appID, row.conversation), fence: fence)
            let place = places[key] ?? batches.count
            if place == batches.count {
                places[key] = place
                batches.append(Batch(partition: key.partition, fence: key.fence))
            }
            // Apps have no `:` in their names.
            let name = "\(row.appID):\(row.conversation)"
            if batches[place].rows[name] == nil { batches[place].names.append(name) }
            batches[place].rows[name, default: []].append(index)
        }
        return batches
    }

    /// Rows that a later claim keeps out are done: nothing is left to do for them.
    private func wasPut(_ id: CallID, _ count: Int, _ items: [[Int]], _ results: [RedisResult]) -> [Action] {
        var done = Done()
        for (items, result) in zip(items, results) {
            if result == .reply(.integer(1)) || result == .reply(.integer(0)) { continue }
            if done.failures.isEmpty { done.failures = Array(repeating: Failure(), count: count) }
            for index in items { done.failures[index] = Self.failure(result) }
        }
        return [.reply(id, .done(done))]
    }

    private static func failure(_ result: RedisResult) -> Failure {
        switch result {
        case .refused(let failure), .unknown(let failure): failure
        case .reply(.error(let text)): Failure(.internalError, "Redis: \(text)")
        case .reply: Failure(.internalError, "Redis answered what the hot store does not understand")
        }
    }

    // MARK: reading

    private mutating func read(
        _ id: CallID, _ queries: [RowsQuery], _ deadline: UInt64, _ now: Instant
    ) -> [Action] {
        guard queries.count <= RowLimits.queries else {
            return [.refuse(id, Failure(.limitExceeded, "a call has at most \(RowLimits.queries) queries"))]
        }
        guard !queries.isEmpty else { return [.reply(id, .rowsRead(RowsRead()))] }
        let budget = max(Self.leastPageBytes, min(RowLimits.pageBytes, RowLimits.answerBytes / queries.count))
        var items: [[Int]] = []
        var commands: [RedisCommand] = []
        var places: [Int: Int] = [:]
        for (index, query) in queries.enumerated() {
            let partition = partition(query.appID, query.conversation)
            var place = places[partition] ?? items.count
            if place < items.count, items[place].count >= config.queriesPerCall { place = items.count }
            if place == items.count {
                places[partition] = place
                items.append([])
                var command = command(HotScripts.read, partition)
                command.arguments.add(config.rows)
                command.arguments.add(budget)
                commands.append(command)
            }
            items[place].append(index)
            Self.add(query, to: &commands[place].arguments)
        }
        return send(.read(id, queries, items: items), commands, deadline, config.readTimeoutMS, now)
    }

    private static func add(_ query: RowsQuery, to arguments: inout RedisArguments) {
        let limit = query.limit == 0 ? RowLimits.pageRowsDefault : min(Int(query.limit), RowLimits.pageRows)
        arguments.add("\(query.appID):\(query.conversation)")
        // No row is beyond the largest number, so that nothing is taken for something smaller.
        arguments.add(min(query.fromSeq, HotRow.largest + 1))
        arguments.add(min(query.beforeSeq, HotRow.largest + 2))
        arguments.add(limit)
        arguments.add(min(query.atLeast, HotRow.largest + 1))
    }

    private func wasRead(
        _ id: CallID, _ queries: [RowsQuery], _ items: [[Int]], _ results: [RedisResult]
    ) -> [Action] {
        var miss = RowsPage()
        miss.failure = Failure(.notFound, "not in the hot store; ask the next tier")
        var answer = RowsRead()
        answer.pages = Array(repeating: miss, count: queries.count)
        var bytes = 0
        var failed = 0
        for (items, result) in zip(items, results) {
            guard case .reply(let reply) = result, let pages = reply.elements, pages.count == items.count else {
                failed += 1
                continue
            }
            for (index, page) in zip(items, pages) where bytes < RowLimits.answerBytes {
                guard let page = Self.page(page, queries[index]) else { continue }
                bytes += page.rows.reduce(0) { $0 + $1.message.count }
                answer.pages[index] = page
            }
        }
        // Told as a whole, so that the caller may leave a store alone that does not answer.
        if failed == results.count { return [.refuse(id, Self.failure(results[0]))] }
        return [.reply(id, .rowsRead(answer))]
    }

    /// Nil: a miss, or rows that do not follow one another.
    private static func page(_ reply: RedisReply, _ query: RowsQuery) -> RowsPage? {
        guard let parts = reply.elements, parts.count == 3, case .bytes(let head) = parts[0],
            head.count == HotRow.headBytes, let rows = parts[1].elements, let recalled = parts[2].elements
        else { return nil }
        var page = RowsPage()
        page.head.appID = query.appID
        page.head.conversation = query.conversation
        page.head.seq = HotRow.number(head, 1)
        page.head.n = HotRow.number(head, 7)
        page.head.timeMs = HotRow.number(head, 13)
        for row in rows {
            guard case .bytes(let bytes) = row,
                let row = HotRow.decode(bytes, app: query.appID, conversation: query.conversation),
                page.rows.last.map({ row.seq == $0.seq + 1 }) ?? true
            else { return nil }
            page.rows.append(row)
        }
        page.recalledSeqs = recalled.compactMap(\.number).sorted()
        return page
    }
}
