import Foundation
import Ports
import Wire

/// A conversation's row.
struct StoredHead {
    var place = ConversationPlace()
    var bucket: UInt32 = 0
    /// Rows up to here have expired, and so many of them counted.
    var baseSeq: UInt64 = 0
    var baseN: UInt64 = 0
}

extension MySQLRecentStore {
    /// The rows of conversations by name; absent where there is none.
    static func heads(_ names: [Name], _ connection: MySQLConnection) throws(MySQLError) -> [Name: StoredHead] {
        var found: [Name: StoredHead] = [:]
        try listed(
            names, "(app, name)", 2, connection,
            {
                $1.add($0.app)
                $1.add($0.conversation)
            },
            """
            SELECT app, name, no, seq, n, time, changed, first_sender, first_seq, second_sender, second_seq, others_seq,
            recall_seq, bucket, base_seq, base_n FROM conversations WHERE
            """
        ) { row in
            var head = StoredHead()
            head.place.no = row.int(2)
            head.place.seq = row.uint(3)
            head.place.n = row.uint(4)
            head.place.time = row.uint(5)
            head.place.changed = row.uint(6)
            head.place.firstSender = row.text(7)
            head.place.firstSeq = row.uint(8)
            head.place.secondSender = row.text(9)
            head.place.secondSeq = row.uint(10)
            head.place.othersSeq = row.uint(11)
            head.place.recallSeq = row.uint(12)
            head.bucket = UInt32(clamping: row.uint(13))
            head.baseSeq = row.uint(14)
            head.baseN = row.uint(15)
            found[Name(app: row.text(0), conversation: row.text(1))] = head
        }
        return found
    }

    /// Asks for the rows of a list of keys, so many a query that there are few different queries.
    static func listed<Key>(
        _ keys: [Key], _ columns: String, _ width: Int, _ connection: MySQLConnection,
        _ fill: (Key, inout MySQLValues) -> Void, _ select: String, first: MySQLValues? = nil, suffix: String = "",
        _ each: (borrowing MySQLRow) -> Void
    ) throws(MySQLError) {
        var next = 0
        while next < keys.count {
            let part = keys[next...].prefix(Chunks.largest)
            let count = Chunks.padded(part.count)
            var values = first ?? MySQLValues()
            for key in part { fill(key, &values) }
            // Filled up with the last one, which changes nothing in a list.
            if let last = part.last { for _ in part.count..<count { fill(last, &values) } }
            let list =
                width == 1 ? Array(repeating: "?", count: count).joined(separator: ",") : Chunks.tuples(width, count)
            try connection.query("\(select) \(columns) IN (\(list))\(suffix)", values, each)
            next += part.count
        }
    }

    static func row(_ row: borrowing MySQLRow, _ name: Name, from column: Int = 0) -> StoredRow {
        var found = StoredRow()
        found.appID = name.app
        found.conversation = name.conversation
        found.seq = row.uint(column)
        found.n = row.uint(column + 1)
        found.timeMs = row.uint(column + 2)
        found.sender = row.text(column + 3)
        let flags = row.uint(column + 4)
        found.control = flags & RecentSchema.control != 0
        found.lost = flags & RecentSchema.lost != 0
        found.targetSeq = row.uint(column + 5)
        found.message = row.data(column + 6)
        return found
    }

    static let rowColumns = "seq, n, time, sender, flags, target, body"

    /// Which buckets were here and are not any more. Asked after reading: what was read while they were here was true.
    static func absent(_ connection: MySQLConnection) throws(MySQLError) -> Set<UInt32> {
        var found: Set<UInt32> = []
        try connection.query("SELECT bucket FROM buckets WHERE state = 2") { row in
            found.insert(UInt32(clamping: row.uint(0)))
        }
        return found
    }

    // MARK: the writer's look-up

    public func lookup(_ request: WriterLookup) -> WriterFound {
        do throws(MySQLError) {
            return try session.reading { (connection) throws(MySQLError) in try Self.lookup(request, connection) }
        } catch {
            var failed = WriterFound()
            failed.failure = error.failure
            return failed
        }
    }

    private struct Place: Hashable {
        let conversation: UInt64
        let seq: UInt64
    }

    private static func lookup(
        _ request: WriterLookup, _ connection: MySQLConnection
    ) throws(MySQLError) -> WriterFound {
        var found = WriterFound()
        let stored = try dedup(request.keys, connection)
        let keyed = request.keys.filter { stored[$0.key] != nil }.map {
            Name(app: $0.appID, conversation: $0.conversation)
        }
        let asked = request.conversations.map { Name(app: $0.appID, conversation: $0.conversation) }
        let heads = try heads(unique(keyed + asked), connection)
        var places: [Place: Name] = [:]
        for key in request.keys {
            let name = Name(app: key.appID, conversation: key.conversation)
            guard let no = heads[name]?.place.no, let seq = stored[key.key]?[UInt64(no)] else { continue }
            places[Place(conversation: UInt64(no), seq: seq)] = name
        }
        let rows = try rows(at: places, connection)
        for key in request.keys {
            let name = Name(app: key.appID, conversation: key.conversation)
            guard let no = heads[name]?.place.no, let seq = stored[key.key]?[UInt64(no)],
                var row = rows[Place(conversation: UInt64(no), seq: seq)]
            else {
                found.hits.append(StoredRow())
                continue
            }
            row.dedupKey = key.key
            found.hits.append(row)
        }
        found.heads = asked.map { head($0, heads[$0]) }
        return found
    }

    private static func unique(_ names: [Name]) -> [Name] {
        var seen: Set<Name> = []
        return names.filter { seen.insert($0).inserted }
    }

    /// Key -> conversation -> seq, of the keys that are stored.
    private static func dedup(
        _ keys: [DedupKey], _ connection: MySQLConnection
    ) throws(MySQLError) -> [Data: [UInt64: UInt64]] {
        var byBucket: [UInt32: [Data]] = [:]
        var buckets: [UInt32] = []
        for key in keys {
            if byBucket[key.bucket] == nil { buckets.append(key.bucket) }
            byBucket[key.bucket, default: []].append(key.key)
        }
        var found: [Data: [UInt64: UInt64]] = [:]
        for bucket in buckets {
            try listed(
                byBucket[bucket] ?? [], "dkey", 1, connection, { $1.add($0) },
                "SELECT dkey, conv, seq FROM dedup WHERE bucket = ? AND", first: MySQLValues(UInt64(bucket))
            ) { row in found[row.data(0), default: [:]][row.uint(1)] = row.uint(2) }
        }
        return found
    }

    private static func rows(
        at places: [Place: Name], _ connection: MySQLConnection
    ) throws(MySQLError) -> [Place: StoredRow] {
        let order = places.keys.sorted { ($0.conversation, $0.seq) < ($1.conversation, $1.seq) }
        var found: [Place: StoredRow] = [:]
        try listed(
            order, "(conv, seq)", 2, connection,
            {
                $1.add($0.conversation)
                $1.add($0.seq)
            }, "SELECT conv, \(rowColumns) FROM messages WHERE"
        ) { row in
            let place = Place(conversation: row.uint(0), seq: row.uint(1))
            if let name = places[place] { found[place] = Self.row(row, name, from: 1) }
        }
        return found
    }

    static func head(_ name: Name, _ stored: StoredHead?) -> Head {
        var head = Head()
        head.appID = name.app
        head.conversation = name.conversation
        if let place = stored?.place {
            head.seq = place.seq
            head.n = place.n
            head.timeMs = place.time
        }
        return head
    }

    // MARK: pages

    public func rows(_ queries: [RowsQuery]) -> [RowsPage] { rows(queries, buckets: []) }

    /// - Parameter buckets: of the queries' conversations, where the caller knows them.
    func rows(_ queries: [RowsQuery], buckets: [UInt32]) -> [RowsPage] {
        do throws(MySQLError) {
            return try session.reading { (connection) throws(MySQLError) in
                let names = Self.unique(queries.map { Name(app: $0.appID, conversation: $0.conversation) })
                let heads = try Self.heads(names, connection)
                var bytes = 0
                var pages: [RowsPage] = []
                for query in queries {
                    let head = heads[Name(app: query.appID, conversation: query.conversation)]
                    pages.append(try Self.page(query, head, &bytes, connection))
                }
                let absent = try Self.absent(connection)
                for (index, bucket) in buckets.enumerated() where absent.contains(bucket) {
                    // It may have more rows where it is now.
                    pages[index] = RowsPage()
                    pages[index].failure = Self.movedFailure(bucket)
                }
                return pages
            }
        } catch {
            return queries.map { _ in
                var page = RowsPage()
                page.failure = error.failure
                return page
            }
        }
    }

    private static func page(
        _ query: RowsQuery, _ stored: StoredHead?, _ bytes: inout Int, _ connection: MySQLConnection
    ) throws(MySQLError) -> RowsPage {
        let name = Name(app: query.appID, conversation: query.conversation)
        var page = RowsPage()
        guard bytes < RowLimits.answerBytes else {
            page.failure = Failure(.overloaded, "too much for one answer; ask for fewer pages at once")
            return page
        }
        page.head = head(name, stored)
        if query.atLeast > page.head.seq {
            page.failure = Failure(
                .historyUnavailable, "\(query.conversation) ends at \(page.head.seq), before \(query.atLeast)")
            return page
        }
        guard let stored else { return page }
        let limit = query.limit == 0 ? RowLimits.pageRowsDefault : min(Int(query.limit), RowLimits.pageRows)
        let below = query.beforeSeq == 0 ? stored.place.seq + 1 : min(query.beforeSeq, stored.place.seq + 1)
        let upwards = query.fromSeq > 0
        // Seqs are dense: a page is a range, and nobody has to read to the end of a conversation to sort it.
        let low = upwards ? query.fromSeq : (below > UInt64(limit) ? below - UInt64(limit) : 1)
        let high = upwards ? min(below, low.addingReportingOverflow(UInt64(limit)).partialValue) : below
        guard low < high else { return page }
        var rows: [StoredRow] = []
        try connection.query(
            "SELECT \(rowColumns) FROM messages WHERE conv = ? AND seq >= ? AND seq < ? ORDER BY seq",
            MySQLValues(UInt64(stored.place.no), low, high)
        ) { row in rows.append(Self.row(row, name)) }
        fill(&page, rows, low: low, high: high, upwards: upwards)
        bytes += page.rows.reduce(0) { $0 + $1.message.count }
        try nameRecalled(&page, stored.place, connection)
        return page
    }

    /// The rows if they are dense, as many as a page may hold.
    private static func fill(_ page: inout RowsPage, _ rows: [StoredRow], low: UInt64, high: UInt64, upwards: Bool) {
        var expected = upwards ? low : high - 1
        var bytes = 0
        for row in upwards ? rows : rows.reversed() {
            guard row.seq == expected else { break }
            bytes += row.message.count
            if bytes > RowLimits.pageBytes, !page.rows.isEmpty {
                expected = 0
                break
            }
            page.rows.append(row)
            expected = upwards ? expected + 1 : expected - 1
        }
        // Ended early by its size, or complete.
        if expected != 0, upwards ? expected < high : expected >= low {
            let name = page.head.conversation
            page.rows = []
            page.failure = Failure(.historyUnavailable, "\(name) has no row \(expected) here")
            return
        }
        if !upwards { page.rows.reverse() }
    }

    /// Only a recall above the page's first row can mean one of its rows.
    private static func nameRecalled(
        _ page: inout RowsPage, _ place: ConversationPlace, _ connection: MySQLConnection
    ) throws(MySQLError) {
        guard let first = page.rows.first?.seq, let last = page.rows.last?.seq, place.recallSeq > first else { return }
        var recalled: [UInt64] = []
        try connection.query(
            "SELECT DISTINCT t.target \(recalledRows) ORDER BY 1", MySQLValues(UInt64(place.no), first - 1, last)
        ) { row in recalled.append(row.uint(0)) }
        page.recalledSeqs = recalled
    }

    /// Recalled: a later row of the same sender says so.
    static let recalledRows = """
        FROM targets t JOIN messages m ON m.conv = t.conv AND m.seq = t.target
        JOIN messages r ON r.conv = t.conv AND r.seq = t.seq
        WHERE t.conv = ? AND t.target > ? AND t.target <= ? AND t.recall = 1 AND (m.flags & 1) = 0
        AND r.sender = m.sender
        """
}
