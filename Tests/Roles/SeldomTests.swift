import Testing

@testable import Machinery

/// A boxed optional does what an optional does, and costs a word.
@Suite struct SeldomTests {
    private struct Owner {
        @Seldom var list: [Int]?
    }

    @Test func sameAsAnOptional() {
        var random = SeededRandom(seed: 7)
        var owner = Owner()
        var model: [Int]?
        for step in 0..<5000 {
            switch random.next() % 5 {
            case 0:
                owner.list = [step]
                model = [step]
            case 1:
                owner.list?.append(step)
                model?.append(step)
            case 2:
                owner.list = nil
                model = nil
            case 3:
                owner.list = owner.list?.reversed()
                model = model?.reversed()
            default:
                // Another owner's changes are its own.
                var other = owner
                other.list?.append(-1)
                other.list = other.list == nil ? [1] : nil
            }
            #expect(owner.list == model)
        }
    }

    @Test func nilCostsAWord() {
        #expect(MemoryLayout<Seldom<(Int, Int, Int, Int)>>.size == MemoryLayout<Int>.size)
    }

    @Test func settingNilThroughAnAccessorFreesTheBox() {
        final class Witness: Sendable {}
        struct Holder {
            @Seldom var witness: Witness?
            var box: [Witness?] { _witness.box }
        }
        weak var seen: Witness?
        var holder = Holder()
        do {
            let witness = Witness()
            seen = witness
            holder.witness = witness
        }
        #expect(seen != nil && holder.witness === seen)
        func clear(_ value: inout Witness?) { value = nil }
        clear(&holder.witness)
        #expect(seen == nil && holder.witness == nil && holder.box.isEmpty)
    }
}
