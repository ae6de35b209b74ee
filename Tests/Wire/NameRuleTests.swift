import Identity
import Testing
import Wire

/// Two spellings of one name are one key in a Dictionary and two on the disk: only one of them may be a name.
@Suite struct NameRuleTests {
    /// Composed and decomposed: equal as Strings, different as bytes.
    static let spellings = [
        ("jos\u{e9}", "jose\u{301}"),
        ("\u{c5}ngstrom", "\u{212b}ngstrom"),
        ("\u{ac00}", "\u{1100}\u{1161}"),
        ("q\u{323}\u{307}", "q\u{307}\u{323}"),
        ("\u{3a9}", "\u{2126}"),
    ]

    @Test(arguments: spellings) func onlyOneSpellingIsAName(normal: String, other: String) {
        #expect(normal == other && Array(normal.utf8) != Array(other.utf8))
        #expect(NameRule.isUser(normal) && NameRule.isNormal(normal))
        #expect(!NameRule.isUser(other) && !NameRule.isNormal(other))
    }

    @Test(arguments: spellings) func onlyOneSpellingIsAConversation(normal: String, other: String) throws {
        for kind in ["u", "g"] {
            #expect(ConversationName("\(kind):\(normal)") != nil)
            #expect(ConversationName("\(kind):\(other)") == nil)
        }
        // "a" and "~" come before and behind everything else.
        let pair = try #require(ConversationName("p:a|\(normal)"))
        #expect(pair.peer(of: normal) == "a" && pair.members == ["a", normal])
        #expect(ConversationName("p:a|\(other)") == nil)
        #expect(ConversationName("p:\(other)|\u{10ffff}") == nil)
    }

    @Test func namesOfEveryScriptAreNames() {
        for name in ["alice", "\u{674e}\u{96f7}", "\u{1f600}", "\u{417}\u{43e}\u{44f}", "\u{5d0}\u{5d1}", "a.b-c_d@e"] {
            #expect(NameRule.isUser(name), "\(name)")
        }
        for name in ["", "a b", "a|b", "a\u{7f}", "a\nb", String(repeating: "a", count: 65)] {
            #expect(!NameRule.isUser(name), "\(name)")
        }
        #expect(NameRule.isUser(String(repeating: "a", count: 64)))
    }

    @Test func traceIDsAreShortAndPrintable() {
        for id in ["t-1", String(repeating: "x", count: 64), "!~"] {
            #expect(TraceRule.isLegal(id.utf8) && TraceRule.legal(id) == id)
        }
        for id in ["a b", "a\nb", "\u{e9}", "\u{7f}", String(repeating: "x", count: 65)] {
            #expect(!TraceRule.isLegal(id.utf8) && TraceRule.legal(id).isEmpty)
        }
        #expect(!TraceRule.isLegal("".utf8) && TraceRule.legal("").isEmpty)
    }
}
