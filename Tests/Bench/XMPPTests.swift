import Foundation
import Testing

@testable import MartletBench

/// XMPP as ejabberd and others write it, and the dialect as a script of what a server sends.
@Suite struct XMPPTests {
    private static let open = """
        <?xml version='1.0'?><stream:stream id='123' version='1.0' xml:lang='en' \
        xmlns:stream='http://etherx.jabber.org/streams' from='localhost' xmlns='jabber:client'>
        """
    private static let features = """
        <stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>\
        </mechanisms><sm xmlns='urn:xmpp:sm:3'/></stream:features>
        """

    @Test func elementsAreCutAtEveryPoint() throws {
        let elements = [
            Self.open, Self.features, "\n ", "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
            #"<message to="a/b>c" id='x'><body>a &lt; b / c</body><x><y/><body><z a='/>'></z></body></x></message>"#,
            "<a xmlns='urn:xmpp:sm:3' h='12'/>", "</stream:stream>",
        ]
        let bytes = Array(elements.joined().utf8)
        var ends: [Int] = []
        for element in elements { ends.append((ends.last ?? 0) + element.utf8.count) }
        ends.remove(at: 2)
        let kinds: [XMLCutter.Kind] = [.streamOpen, .stanza, .stanza, .stanza, .stanza, .streamClose]
        for count in 0...bytes.count {
            try bytes[..<count].withUnsafeBytes { raw in
                var cuts: [XMLCutter.Cut] = []
                while let cut = try XMLCutter.next(raw, at: cuts.last?.end ?? 0) { cuts.append(cut) }
                #expect(cuts.map(\.end) == ends.filter { $0 <= count })
                #expect(cuts.map(\.kind) == Array(kinds.prefix(cuts.count)))
            }
        }
    }

    @Test func whatIsNoStream() {
        #expect(throws: BenchError.self) {
            try Array("HTTP/1.1 400 Bad Request".utf8).withUnsafeBytes { _ = try XMLCutter.next($0, at: 0) }
        }
        let endless = Array("<message><body>".utf8) + [UInt8](repeating: 0x61, count: XMLCutter.mostBytes)
        #expect(throws: BenchError.self) { try endless.withUnsafeBytes { _ = try XMLCutter.next($0, at: 0) } }
        let quoted = Array("<message to='".utf8) + [UInt8](repeating: 0x3e, count: XMLCutter.mostBytes)
        #expect(throws: BenchError.self) { try quoted.withUnsafeBytes { _ = try XMLCutter.next($0, at: 0) } }
    }

    @Test func attributesAndNames() throws {
        let bytes = Array(
            #"<message xml:id='1' rid="2" to='a>b "c"' id = 'no' id='3' empty=''><id id='4'/></message>"#.utf8)
        try bytes.withUnsafeBytes { raw in
            let cut = try #require(try XMLCutter.next(raw, at: 0))
            func value(_ name: StaticString) -> String? {
                XMLCutter.attribute(name, raw, cut.start, cut.tagEnd).map { String(decoding: raw[$0], as: UTF8.self) }
            }
            #expect(value("rid") == "2" && value("to") == #"a>b "c""# && value("xml:id") == "1")
            #expect(value("none") == nil && value("d") == nil)
            #expect(XMLCutter.isNamed("message", raw, 0) && !XMLCutter.isNamed("mess", raw, 0))
            #expect(!XMLCutter.isNamed("messages", raw, 0))
        }
        for (text, name) in [("<a/>", true), ("<a h='1'/>", true), ("<a>", true), ("<ab/>", false), ("<a", false)] {
            Array(text.utf8).withUnsafeBytes { #expect(XMLCutter.isNamed("a", $0, 0) == name, "\(text)") }
        }
        // An end of the bytes inside the tag is the end of the search, not beyond it.
        for count in 0..<40 {
            Array(bytes[..<count]).withUnsafeBytes { _ = XMLCutter.attribute("empty", $0, 0, count) }
        }
    }

    @Test func aSendCarriesItsNumber() throws {
        let template = StanzaTemplate(to: "b@localhost", runNumber: 0xabc, bodyBytes: 100)
        for number: UInt32 in [1, 0xfedc_ba98] {
            var out: [UInt8] = [1, 2]
            template.append(number, to: &out)
            try out[2...].withUnsafeBytes { raw in
                let cut = try #require(try XMLCutter.next(raw, at: 0))
                let id = try #require(XMLCutter.attribute("id", raw, cut.start, cut.tagEnd))
                #expect(StanzaTemplate.number(raw, id, runNumber: 0xabc) == number)
                #expect(StanzaTemplate.number(raw, id, runNumber: 0xabd) == nil)
                #expect(StanzaTemplate.number(raw, id.dropLast(), runNumber: 0xabc) == nil)
                let body = String(decoding: raw[cut.tagEnd..<cut.end], as: UTF8.self)
                #expect(body.hasPrefix("<body>abcdef") && body.utf8.count == 100 + "<body></body></message>".utf8.count)
                #expect(cut.end == raw.count)
            }
        }
        Array("zzzzzzzzzzzzzzzz-00000001".utf8).withUnsafeBytes { raw in
            #expect(StanzaTemplate.number(raw, 0..<25, runNumber: 0) == nil)
        }
    }

    /// Logs both sides in, step by step.
    private func loggedIn(archived: Bool) throws -> ScriptedPeer {
        let chat = XMPPChat(bytes: 20, domain: "localhost", password: "secret", archived: archived, runNumber: 0xabc)
        let peer = try ScriptedPeer(chat)
        peer.connect()
        for link in 0...1 {
            let name = link == 0 ? "bench-a0" : "bench-b0"
            #expect(text(peer.taken(link)).contains("<stream:stream to='localhost'"))
            try peer.send(Self.open + Self.features, to: link)
            let plain = Data("\0\(name)\0secret".utf8).base64EncodedString()
            #expect(text(peer.taken(link)).hasSuffix("mechanism='PLAIN'>\(plain)</auth>"))
            try peer.send("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", to: link)
            #expect(text(peer.taken(link)).contains("<stream:stream to='localhost'"))
            try peer.send(Self.open + Self.features, to: link)
            #expect(text(peer.taken(link)).contains("<resource>bench</resource>"))
            #expect(peer.run.fleet.links[link].stage == .greeting)
            let bound = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>\(name)@localhost/bench</jid></bind>"
            try peer.send("<iq type='result' id='bind'>\(bound)</iq>", to: link)
            #expect(text(peer.taken(link)).hasPrefix("<presence/>"))
            try peer.send("<presence to='\(name)@localhost/bench' from='\(name)@localhost/bench'/>", to: link)
            if link == 0 {
                #expect(peer.sender.stage != .ready, "nothing says yet that messages are counted")
                try peer.send("<enabled xmlns='urn:xmpp:sm:3'/>", to: 0)
            }
            #expect(peer.run.fleet.links[link].stage == .ready)
        }
        return peer
    }

    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    private func questions(_ text: String) -> Int {
        text.components(separatedBy: "<r xmlns='urn:xmpp:sm:3'/>").count - 1
    }

    /// What a server makes of a message on its way to the receiver.
    private func delivered(_ sent: [UInt8], archived: Bool) -> String {
        var stanza = text(sent).components(separatedBy: "<r xmlns").first ?? ""
        stanza = stanza.replacingOccurrences(
            of: "<message ", with: "<message xml:lang='en' from='bench-a0@localhost/bench' ")
        guard archived else { return stanza }
        let id = "<stanza-id by='bench-b0@localhost' id='1700000000000000' xmlns='urn:xmpp:sid:0'/>"
        return stanza.replacingOccurrences(of: "<body>", with: id + "<body>")
    }

    @Test func aConversationWithAServer() throws {
        let peer = try loggedIn(archived: false)
        let numbers = [peer.start(), peer.start(), peer.start()]
        let out = text(peer.taken(0))
        #expect(questions(out) == 1, "the answer to the first is awaited")
        let sent = out.components(separatedBy: "<message ").dropFirst().map { Array("<message \($0)".utf8) }
        #expect(sent.count == 3)
        try peer.send(delivered(sent[0], archived: false), to: 1)
        #expect(peer.pair.isOpen(numbers[0]), "not acknowledged yet")
        // One count can stand for several.
        try peer.send("<a xmlns='urn:xmpp:sm:3' h='2'/>", to: 0)
        #expect(questions(text(peer.taken(0))) == 1, "the third is still to be asked about")
        #expect(!peer.pair.isOpen(numbers[0]) && peer.pair[numbers[1]].ack == .accepted)
        #expect(peer.pair[numbers[2]].ack == .waiting)
        try peer.send(delivered(sent[1], archived: false) + delivered(sent[2], archived: false), to: 1)
        try peer.send("<a h='3' xmlns='urn:xmpp:sm:3'/>", to: 0)
        #expect(peer.pair.open == 0 && peer.run.errors.isEmpty && peer.taken(0) == [])
        try peer.send(delivered(Array("<message id='other'><body>x</body></message>".utf8), archived: false), to: 1)
        #expect(peer.run.errors == ["foreign_message": 1])
        #expect(throws: BenchError.self) { try peer.send("<a xmlns='urn:xmpp:sm:3' h='4'/>", to: 0) }
        #expect(throws: BenchError.self) { try peer.send("<stream:error><conflict/></stream:error>", to: 1) }
    }

    @Test func aMessageThatComesBackIsRefused() throws {
        let peer = try loggedIn(archived: false)
        let number = peer.start()
        try peer.send(delivered(peer.taken(0), archived: false), to: 0)
        #expect(peer.run.errors == ["returned": 1] && !peer.pair.isOpen(number))
    }

    @Test func anArchiveHasToShow() throws {
        let peer = try loggedIn(archived: true)
        _ = peer.start()
        try peer.send(delivered(peer.taken(0), archived: true), to: 1)
        #expect(peer.run.errors.isEmpty)
        _ = peer.start()
        try peer.send(delivered(peer.taken(0), archived: false), to: 1)
        #expect(peer.run.errors == ["not_archived": 1])
    }

    @Test func aServerThatRefuses() throws {
        let failure = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>"
        let peer = try ScriptedPeer(XMPPChat(bytes: 20, domain: "localhost", password: "x", archived: false))
        peer.connect()
        try peer.send(Self.open + Self.features, to: 0)
        #expect(throws: BenchError.self) { try peer.send(failure, to: 0) }
    }
}
