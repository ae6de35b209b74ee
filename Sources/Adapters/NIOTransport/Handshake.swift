import Crypto
import Foundation

/// Mutual challenge and response with HMAC-SHA256 under the cluster's secret, which never travels. The label says
/// which side proves, so that a proof cannot be reflected. Pure: nonces are given.
struct Handshake {
    enum Side: String { case link = "martlet-link", listener = "martlet-listener" }

    enum Refusal: Error, Equatable {
        case version(UInt8)
        case itself
        case badProof
        case unexpected
    }

    enum Step: Equatable {
        case send([PeerFrame])
        /// Both sides have proved themselves.
        case done(send: [PeerFrame], peer: UInt64)
    }

    private enum State: Equatable { case start, helloSent, challengeSent(link: UInt64, nonce: [UInt8]), over }

    private let side: Side
    private let node: UInt64
    private let nonce: [UInt8]
    private let key: SymmetricKey
    private var state = State.start

    init(side: Side, node: UInt64, nonce: [UInt8], secret: [UInt8]) {
        self.side = side
        self.node = node
        self.nonce = nonce
        self.key = SymmetricKey(data: secret)
    }

    /// What a link says first; nothing for a listener.
    mutating func begin() -> [PeerFrame] {
        guard side == .link else { return [] }
        state = .helloSent
        return [.hello(version: PeerFrame.version, node: node, nonce: nonce)]
    }

    mutating func on(_ frame: PeerFrame) throws(Refusal) -> Step {
        switch (state, frame) {
        case (.start, .hello(let version, let peer, let theirs)) where side == .listener:
            guard version == PeerFrame.version else { throw .version(version) }
            guard peer != node else { throw .itself }
            state = .challengeSent(link: peer, nonce: theirs)
            let proof = Array(code(.listener, link: peer, theirs, listener: node, nonce))
            return .send([.challenge(node: node, nonce: nonce, proof: proof)])
        case (.helloSent, .challenge(let peer, let theirs, let proof)):
            guard peer != node else { throw .itself }
            let expected = code(.listener, link: node, nonce, listener: peer, theirs)
            guard matches(expected, proof) else { throw .badProof }
            state = .over
            let mine = Array(code(.link, link: node, nonce, listener: peer, theirs))
            return .done(send: [.proof(mine)], peer: peer)
        case (.challengeSent(let link, let theirs), .proof(let proof)):
            guard matches(code(.link, link: link, theirs, listener: node, nonce), proof) else { throw .badProof }
            state = .over
            return .done(send: [], peer: link)
        default: throw .unexpected
        }
    }

    private func code(
        _ side: Side, link: UInt64, _ linkNonce: [UInt8], listener: UInt64, _ listenerNonce: [UInt8]
    ) -> HMAC<SHA256>.MAC {
        var text = Array(side.rawValue.utf8)
        for number in [link, listener] { withUnsafeBytes(of: number.bigEndian) { text.append(contentsOf: $0) } }
        text += linkNonce + listenerNonce
        return HMAC<SHA256>.authenticationCode(for: text, using: key)
    }

    /// In constant time.
    private func matches(_ expected: HMAC<SHA256>.MAC, _ proof: [UInt8]) -> Bool { expected == Data(proof) }
}
