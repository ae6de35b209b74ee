import Simulator
import TestKit
import Testing
import Wire

/// The simulated stores keep the promises that every adapter keeps, so that what a simulation proves means something.
@Suite struct SimulatedStoreContracts {
    @Test(arguments: MessageLogContract.cases) func log(_ contract: MessageLogContract.Case) throws {
        try contract.run(SimulatedLogStore(partitions: 4))
    }

    @Test(arguments: RecentStoreContract.cases) func recent(_ contract: RecentStoreContract.Case) throws {
        try contract.run(SimulatedRecentStore())
    }

    @Test(arguments: HotStoreContract.cases) func hot(_ contract: HotStoreContract.Case) throws {
        try contract.run(SimulatedHotStore())
    }

    @Test(arguments: PresenceStoreContract.cases) func presence(_ contract: PresenceStoreContract.Case) throws {
        try contract.run(SimulatedPresenceStore())
    }

    @Test(arguments: UserStoreContract.cases) func users(_ contract: UserStoreContract.Case) throws {
        try contract.run(SimulatedUserStore())
    }

    /// As the embedded store: a bucket that was not written is found at an earlier place, whole.
    @Test func recentForgetsWhatItDidNotWrite() throws {
        let store = SimulatedRecentStore()
        let rows: [StoredRow] = (1...6 as ClosedRange<UInt64>).map {
            RecentStoreContract.row("p:a|b", $0, from: "a", n: $0)
        }
        let epoch = RecentStoreContract.claim(store, 1).epoch
        func put(_ range: Range<Int>) -> [CommitState] {
            let commit = RecentStoreContract.commit(
                1, epoch, UInt64(range.lowerBound), UInt64(range.upperBound), Array(rows[range]))
            return store.commit([commit]).map(\.state)
        }
        #expect(put(0..<2) == [.commitDone])
        try store.flush(rows: 1)
        #expect(put(2..<4) == [.commitDone] && store.unflushedRowCount == 2)
        store.crash()
        #expect(store.rows.values.map(\.count) == [2] && store.unflushedRowCount == 0)
        #expect(put(4..<6) == [.commitConflict], "its position went back too")
        #expect(put(2..<6) == [.commitDone])
        try store.flush(rows: 1)
        store.cutPower()
        #expect(store.rows.isEmpty, "nothing was on the disk")
        #expect(put(0..<6) == [.commitDone])
    }
}
