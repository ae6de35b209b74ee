import Ports
import Testing
import Wire

@testable import MartletOps

/// What people and scripts see.
@Suite struct WordsTests {
    @Test func columnsAreAsWideAsTheyNeedToBe() {
        var table = Table("shard", "rows", "state")
        table.add("0", "1,234", "here")
        table.add("10", "5", "gone")
        #expect(table.text == "shard   rows  state\n    0  1,234  here\n   10      5  gone")
    }

    @Test func figures() {
        #expect([0, 999, 1000, 1_234_567].map { Figures.grouped($0) } == ["0", "999", "1,000", "1,234,567"])
        #expect([0, 1023, 1536, 5 << 30].map { Figures.bytes($0) } == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"])
        #expect(
            [50, 5678, 184_000, 3_720_000].map { Figures.span($0) } == ["0.0 s", "5.6 s", "3 min 4 s", "1 h 2 min"])
    }

    /// Elsewhere than on a terminal a line for each tenth, and none twice.
    @Test func plainProgress() {
        var view = ProgressView("bucket 3", isTerminal: false)
        let lines = (0...100).compactMap { view.update(UInt64($0), of: 100, "x") }
        #expect(lines == (0...10).map { "bucket 3: \($0 * 10) % x\n" })
        #expect(view.update(50, of: 100, "x") == nil, "it does not go back")
        #expect(view.event("fenced") == "bucket 3: fenced\n")
    }

    @Test func aBarOnATerminal() {
        var view = ProgressView("b", isTerminal: true)
        #expect(view.update(50, of: 100, "") == "\r\u{1B}[Kb [############............] 50 % ")
        #expect(view.update(50, of: 100, "") == nil)
        // More than was expected, as conversations change while they are copied.
        #expect(view.update(130, of: 100, "") == "\r\u{1B}[Kb [########################] 100 % ")
        var nothing = ProgressView("b", isTerminal: true)
        #expect(nothing.update(0, of: 0, "")?.contains("100 %") == true)
    }

    @Test func errorsSayWhatToDo() {
        let away = OpsError(StoreOpenError(.unreachable, "db cannot be reached"))
        #expect(away.code == .unreachable && "\(away)".contains("run this again"))
        #expect(OpsError(StoreOpenError(.newerVersion, "written by a newer Martlet")).code == .refused)
        #expect(OpsError(Failure(.storeUnavailable, "away")).code == .unreachable)
        #expect(OpsError(Failure(.internalError, "not equal")).code == .unequal)
        #expect(OpsError(Failure(.forbidden, "no")).code == .refused)
    }

    @Test func whoeverCannotBeAskedHasToSayYes() {
        #expect(throws: Never.self) { try Words.confirm("Sure?", yes: true) }
    }
}
