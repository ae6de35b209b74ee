import Foundation
import Ports
import Wire

/// The hot store as one dense run of rows a conversation; a crash forgets it.
///
/// Isolation: none; a simulation has one thread.
public final class SimulatedHotStore: HotStore, @unchecked Sendable {
    // @unchecked: a simulation has one thread.
    private let rowsKept: Int
    /// A mistake on purpose, for tests of the checker: nothing that is put is kept.
    public var dropsRows = false
    private var fences = HotFences()
    private var runs: [SimulatedRecentStore.Name: [StoredRow]] = [:]
    /// Rows that were ever put: what a watcher of deliveries asks.
    private var given: Set<Given> = []

    private struct Given: Hashable {
        let name: SimulatedRecentStore.Name
        let seq: UInt64
    }

    /// - Parameter rows: of one conversation that are kept.
    public init(rows: Int = 200) { rowsKept = rows }

    /// The process has ended and is started again.
    public func crash() {
        runs = [:]
        fences = HotFences()
    }

    /// Whether the row was ever put here, in this life or an earlier one.
    public func wasGiven(_ app: String, _ conversation: String, _ seq: UInt64) -> Bool {
        given.contains(Given(name: .init(app, conversation), seq: seq))
    }

    public func put(_ rows: [StoredRow], fences: [HotFence]) {
        for row in self.fences.admit(rows, fences) where !dropsRows {
            let name = SimulatedRecentStore.Name(row.appID, row.conversation)
            given.insert(Given(name: name, seq: row.seq))
            var run = runs[name] ?? []
            if let last = run.last?.seq {
                guard row.seq > last else { continue }
                if row.seq > last + 1 { run = [] }
            }
            var kept = row
            kept.dedupKey = Data()
            run.append(kept)
            runs[name] = run.suffix(rowsKept)
        }
    }

    public func rows(_ queries: [RowsQuery]) -> [RowsPage] {
        queries.map { query in
            if let page = page(query) { return page }
            var miss = RowsPage()
            miss.failure = Failure(.notFound, "not in the hot store")
            return miss
        }
    }

    private func page(_ query: RowsQuery) -> RowsPage? {
        guard let run = runs[.init(query.appID, query.conversation)], let first = run.first?.seq, let last = run.last,
            query.atLeast <= last.seq
        else { return nil }
        let limit = UInt64(query.limit == 0 ? UInt32(RowLimits.pageRowsDefault) : query.limit)
        var (from, below) = (query.fromSeq, query.beforeSeq == 0 ? last.seq + 1 : query.beforeSeq)
        if from > 0 {
            guard from <= last.seq else { return nil }
            below = min(below, last.seq + 1, from + limit)
        } else {
            guard below <= last.seq + 1 else { return nil }
            from = below > limit ? below - limit : 1
        }
        guard from >= first else { return nil }
        var page = RowsPage()
        page.rows = run.filter { $0.seq >= from && $0.seq < below }
        let recalled = RowRules.recalled(run)
        page.recalledSeqs = page.rows.map(\.seq).filter { recalled.contains($0) }
        page.head.appID = query.appID
        page.head.conversation = query.conversation
        page.head.seq = last.seq
        page.head.n = last.n
        page.head.timeMs = last.timeMs
        return page
    }
}
