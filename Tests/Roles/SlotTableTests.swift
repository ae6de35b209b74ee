import Machinery
import Testing

/// The table does what a dictionary does, whatever is done in whatever order.
@Suite struct SlotTableTests {
    @Test func sameAsADictionary() {
        var random = SeededRandom(seed: 5)
        var table = SlotTable<Int, [Int]>()
        var model: [Int: [Int]] = [:]
        for step in 0..<20_000 {
            let key = Int(random.next() % 40)
            switch random.next() % 6 {
            case 0:
                table[key] = [step]
                model[key] = [step]
            case 1:
                table[key]?.append(step)
                model[key]?.append(step)
            case 2:
                table[key] = nil
                model[key] = nil
            case 3:
                #expect(table.removeValue(forKey: key) == model.removeValue(forKey: key))
            case 4:
                table.add(key, [step, step])
                if model[key] == nil { model[key] = [step, step] }
            default:
                #expect(table[key] == model[key])
            }
        }
        #expect(table.count == model.count)
        #expect(table.keys.sorted() == model.keys.sorted())
        var seen: [Int: [Int]] = [:]
        // swift-format-ignore: ReplaceForEachWithForLoop
        table.forEach { seen[$0] = copy $1 }
        #expect(seen == model)
        #expect(table.keys { $0.count > 1 }.sorted() == model.filter { $0.value.count > 1 }.keys.sorted())
        #expect(table.reduce(0) { $0 + $1.count } == model.values.reduce(0) { $0 + $1.count })
    }

    @Test func emptiedPlacesAreUsedAgain() {
        var table: SlotTable<Int, String> = [1: "a", 2: "b"]
        table[1] = nil
        table[3] = "c"
        #expect(table[1] == nil && table[2] == "b" && table[3] == "c" && table.count == 2)
        table[2] = nil
        table[3] = nil
        #expect(table.isEmpty)
    }

    @Test func changesInPlaceOrNotAtAll() {
        var table: SlotTable<Int, [Int]> = [1: [1]]
        #expect(table.change(1) { $0.append(2) } != nil && table[1] == [1, 2])
        #expect(table.change(1) { $0.last } == 2)
        #expect(table.change(2) { $0.count } == nil && table[2] == nil)
        #expect(table.change(1) { $0.first { $0 > 2 } } == nil)
    }

    /// What was done before the throw is done, and no key that has nothing shows it.
    @Test func aThrowLeavesNothingBehind() {
        struct Stop: Error {}
        func set(_ value: inout String?, _ new: String?) throws {
            value = new
            throw Stop()
        }
        var table: SlotTable<Int, String> = [1: "a"]
        try? set(&table[2], "b")
        #expect(table[2] == "b" && table[3] == nil && table.count == 2)
        try? set(&table[1], nil)
        #expect(table[1] == nil && table[3] == nil && table.keys.sorted() == [2])
    }

    @Test func settingNilThroughAnAccessorRemoves() {
        func clear(_ value: inout String?) { value = nil }
        var table: SlotTable<Int, String> = [1: "a"]
        clear(&table[1])
        clear(&table[2])
        #expect(table.isEmpty && table.keys.isEmpty)
    }
}
