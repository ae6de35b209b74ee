import Foundation

/// Chat over XMPP on plain TCP: SASL PLAIN, a resource, presence; messages to the receiver's bare address.
///
/// The acknowledgement is XEP-0198's: the sender asks for it, with one question under way at a time, and the server's
/// count says how many of the connection's messages it has handled. With an archive, "handled" includes the row in the
/// sender's archive, and the receiver's copy carries the id that its archive gave it (XEP-0359); `archived` insists on
/// that.
final class XMPPChat: ChatTraffic, Dialect {
    let name = "xmpp"
    weak var run: ChatRun?
    let heartbeatMicros: UInt64 = 60_000_000
    private let bytes: Int
    private let domain: String
    private let password: String
    private let archived: Bool
    /// In every message's id, so that nothing of an earlier run counts.
    private let runNumber: UInt64
    private var pairs: [Pair] = []
    private var templates: [StanzaTemplate] = []
    /// Messages of each pair that the server said it has handled.
    private var handled: [UInt32] = []
    /// Pairs whose sender waits for the answer to its question.
    private var asking: [Bool] = []

    /// What comes next in a link's login, by `Link.step`.
    private enum Step: Int { case features, authenticated, featuresAgain, bound, streamManagement, present }

    init(
        bytes: Int, domain: String, password: String, archived: Bool, runNumber: UInt64 = .random(in: .min ... .max)
    ) {
        self.bytes = bytes
        self.domain = domain
        self.password = password
        self.archived = archived
        self.runNumber = runNumber
    }

    func tokens(for users: [String]) -> [String] { users.map { _ in password } }

    func prepare(_ pairs: [Pair]) {
        self.pairs = pairs
        handled = pairs.map { _ in 0 }
        asking = pairs.map { _ in false }
        templates = pairs.map {
            StanzaTemplate(to: "\($0.receiver.user)@\(domain)", runNumber: runNumber, bodyBytes: bytes)
        }
    }

    func write(_ number: UInt32, of pair: Pair) {
        templates[pair.index].append(number, to: &pair.sender.out)
        if !asking[pair.index] { ask(pair) }
    }

    /// A question costs the server a stanza and a packet: what is sent before the answer to one shares the next.
    private func ask(_ pair: Pair) {
        asking[pair.index] = true
        pair.sender.out += "<r xmlns='urn:xmpp:sm:3'/>".utf8
    }

    // MARK: - Connection

    func connected(_ link: Link, of fleet: Fleet) {
        link.stage = .greeting
        link.step = Step.features.rawValue
        openStream(link)
    }

    private func openStream(_ link: Link) {
        link.out +=
            """
            <?xml version='1.0'?><stream:stream to='\(domain)' version='1.0' xmlns='jabber:client' \
            xmlns:stream='http://etherx.jabber.org/streams'>
            """.utf8
    }

    func keepAlive(_ link: Link) { link.out.append(UInt8(ascii: " ")) }

    func goodbye(_ link: Link) { link.out += "</stream:stream>".utf8 }

    func parse(_ bytes: UnsafeRawBufferPointer, _ link: Link, of fleet: Fleet) throws(BenchError) -> Int {
        var at = 0
        while link.socket >= 0, let cut = try XMLCutter.next(bytes, at: at) {
            switch cut.kind {
            case .streamOpen: break
            case .streamClose: fleet.end(link, "the server closed the stream")
            case .stanza where link.stage == .ready: try stanza(bytes, cut, link, fleet)
            case .stanza: try login(bytes, cut, link, fleet)
            }
            at = cut.end
        }
        return at
    }

    /// One step of the login; what is not its answer is an error, but for the presence that comes in between.
    private func login(
        _ bytes: UnsafeRawBufferPointer, _ cut: XMLCutter.Cut, _ link: Link, _ fleet: Fleet
    ) throws(BenchError) {
        let isSender = link.index % 2 == 0
        func named(_ name: StaticString) -> Bool { XMLCutter.isNamed(name, bytes, cut.start) }
        switch Step(rawValue: link.step) {
        case .features where named("stream:features"):
            let plain = Data("\0\(link.user)\0\(link.token)".utf8).base64EncodedString()
            link.out += "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>\(plain)</auth>".utf8
        case .authenticated where named("success"): openStream(link)
        case .featuresAgain where named("stream:features"):
            let bind = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>bench</resource></bind>"
            link.out += "<iq type='set' id='bind'>\(bind)</iq>".utf8
        case .bound where named("iq") && Self.isResult(bytes, cut):
            link.stage = .authenticating
            // Presence first: the server counts what comes after <enable/>, and that shall be messages only.
            link.out += "<presence/>".utf8
            if isSender { link.out += "<enable xmlns='urn:xmpp:sm:3'/>".utf8 }
            link.step = isSender ? Step.streamManagement.rawValue : Step.present.rawValue
            return fleet.touch(link)
        case .streamManagement where named("enabled"), .present where named("presence"): return fleet.ready(link)
        case .streamManagement where named("presence"): return
        default:
            let text = String(decoding: bytes[cut.start..<min(cut.end, cut.start + 200)], as: UTF8.self)
            throw BenchError("the server does not let \(link.user) in: \(text)")
        }
        link.step += 1
        fleet.touch(link)
    }

    private static func isResult(_ bytes: UnsafeRawBufferPointer, _ cut: XMLCutter.Cut) -> Bool {
        guard let type = XMLCutter.attribute("type", bytes, cut.start, cut.tagEnd) else { return false }
        return XMLCutter.starts(bytes, type.lowerBound, with: "result'")
            || XMLCutter.starts(bytes, type.lowerBound, with: "result\"")
    }

    // MARK: - Messages

    private func stanza(
        _ bytes: UnsafeRawBufferPointer, _ cut: XMLCutter.Cut, _ link: Link, _ fleet: Fleet
    ) throws(BenchError) {
        let pair = pairs[link.index / 2]
        if XMLCutter.isNamed("message", bytes, cut.start) {
            message(UnsafeRawBufferPointer(rebasing: bytes[cut.start..<cut.end]), cut.tagEnd - cut.start, link, pair)
        } else if XMLCutter.isNamed("a", bytes, cut.start) {
            guard let h = XMLCutter.attribute("h", bytes, cut.start, cut.tagEnd),
                let count = UInt32(String(decoding: bytes[h], as: UTF8.self)), count < pair.next
            else { throw BenchError("the server acknowledged what was never sent") }
            asking[pair.index] = false
            // Numbers start at 1, so the count is the last one's number.
            while handled[pair.index] < count {
                handled[pair.index] += 1
                run?.acknowledged(handled[pair.index], of: pair)
            }
            // What became possible was perhaps sent just now, with a question.
            if handled[pair.index] + 1 < pair.next, !asking[pair.index] {
                ask(pair)
                fleet.touch(link)
            }
        } else if XMLCutter.isNamed("stream:error", bytes, cut.start) {
            throw BenchError(String(decoding: bytes[cut.start..<min(cut.end, cut.start + 200)], as: UTF8.self))
        }
    }

    private func message(_ stanza: UnsafeRawBufferPointer, _ tagEnd: Int, _ link: Link, _ pair: Pair) {
        guard let id = XMLCutter.attribute("id", stanza, 0, tagEnd),
            let number = StanzaTemplate.number(stanza, id, runNumber: runNumber)
        else {
            run?.count("foreign_message")
            return
        }
        // What comes back to the sender is the message with an error in it.
        guard link === pair.receiver else {
            run?.refused(number, of: pair, why: "returned")
            return
        }
        if archived, !Self.contains("<stanza-id ", stanza) { run?.count("not_archived") }
        run?.received(number, of: pair)
    }

    private static func contains(_ text: StaticString, _ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.indices.contains { XMLCutter.starts(bytes, $0, with: text) }
    }
}

/// One receiver's message with everything that never changes; a send copies it and writes the id's last digits over.
struct StanzaTemplate {
    /// Hexadecimal digits of the run's number and of the message's, with a dash between.
    private static let idBytes = 16 + 1 + 8

    private let bytes: [UInt8]
    private let numberAt: Int

    init(to: String, runNumber: UInt64, bodyBytes: Int) {
        let front = "<message to='\(to)' type='chat' id='\(Self.hex(runNumber, digits: 16))-"
        let body = String(decoding: (0..<bodyBytes).map { UInt8(ascii: "a") + UInt8($0 % 26) }, as: UTF8.self)
        numberAt = front.utf8.count
        bytes = Array("\(front)00000000'><body>\(body)</body></message>".utf8)
    }

    func append(_ number: UInt32, to out: inout [UInt8]) {
        let start = out.count
        out.append(contentsOf: bytes)
        for digit in 0..<8 {
            let value = UInt8(truncatingIfNeeded: number >> UInt32(28 - 4 * digit)) & 0xf
            out[start + numberAt + digit] = value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
        }
    }

    /// The message's number if the id, at the place in the stanza, is of this run.
    static func number(_ stanza: UnsafeRawBufferPointer, _ id: Range<Int>, runNumber: UInt64) -> UInt32? {
        guard id.count == idBytes, stanza[id.lowerBound + 16] == UInt8(ascii: "-"),
            parse(stanza, id.lowerBound, digits: 16) == runNumber,
            let number = parse(stanza, id.lowerBound + 17, digits: 8)
        else { return nil }
        return UInt32(number)
    }

    private static func hex(_ value: UInt64, digits: Int) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: digits - text.count) + text
    }

    private static func parse(_ bytes: UnsafeRawBufferPointer, _ at: Int, digits: Int) -> UInt64? {
        var value: UInt64 = 0
        for index in at..<(at + digits) {
            let digit: UInt8
            switch bytes[index] {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = bytes[index] - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = bytes[index] - UInt8(ascii: "a") + 10
            default: return nil
            }
            value = value << 4 | UInt64(digit)
        }
        return value
    }
}
