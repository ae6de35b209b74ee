import Testing

@testable import RedisStore

/// Where keys live. The numbers are those of Redis Cluster's specification and of a real server's CLUSTER KEYSLOT.
@Suite struct SlotTests {
    @Test func crcIsTheSpecifications() {
        #expect(RedisSlot.crc16(Array("123456789".utf8)[...]) == 0x31C3)
        #expect(RedisSlot.crc16([]) == 0)
    }

    @Test(arguments: [
        ("foo", 12182), ("bar", 5061), ("hello", 866), ("somekey", 11058), ("foo{hash_tag}", 2515),
        ("bar{hash_tag}", 2515), ("{user1000}.following", 3443), ("{user1000}.followers", 3443),
        ("", 0),
    ])
    func slotsAreTheServers(key: String, slot: UInt16) { #expect(RedisSlot.of(key) == slot) }

    @Test func tagIsTheFirstWholeOne() {
        func tag(_ key: String) -> String { String(decoding: RedisSlot.tag(of: Array(key.utf8)), as: UTF8.self) }
        #expect(tag("foo{}{bar}") == "foo{}{bar}")
        #expect(tag("foo{{bar}}zap") == "{bar")
        #expect(tag("foo{bar}{zap}") == "bar")
        #expect(tag("foo{bar") == "foo{bar")
        #expect(tag("m:p{17}u:demo:a{b}") == "17")
    }

    /// Stored data is found by them: they never change.
    @Test func tagsArePinned() {
        #expect(PartitionTags(count: 4).tags == ["3", "2", "1", "0"])
        #expect(PartitionTags(count: 64).tags.prefix(8) == ["10", "18", "113", "342", "29", "21", "3", "122"])
    }

    private func slotPart(_ tag: String, _ count: Int) -> Int { Int(RedisSlot.of(tag)) / (RedisSlot.count / count) }

    @Test(arguments: [1, 2, 64, 1024, 4096])
    func partitionsLieEvenly(count: Int) {
        let tags = PartitionTags(count: count)
        #expect(tags.count == count)
        #expect(Set(tags.tags).count == count)
        for (index, tag) in tags.tags.enumerated() {
            #expect(slotPart(tag, count) == index)
            #expect(RedisSlot.of("m:p{\(tag)}u:demo:alice") == tags.slots[index])
        }
        #expect(PartitionTags(count: 100).count == 64)
    }
}
