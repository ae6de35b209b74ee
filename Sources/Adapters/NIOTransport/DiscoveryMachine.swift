/// Which addresses stand behind names, decided from what a resolver answers. An address is connected to as soon as one
/// name has it, and let go when no name has had it for some answers in a row: one answer may be a part only. A resolver
/// that fails says nothing about the addresses, so they stay.
///
/// Pure: no clock, no socket. Times in microseconds of a monotonic clock.
struct DiscoveryMachine: Sendable {
    enum Answer: Equatable, Sendable {
        /// The addresses, which may be none: the name is not there, or nobody is behind it.
        case addresses([String])
        /// Nothing is known: the resolver did not answer.
        case failed
    }

    enum Action: Equatable, Sendable {
        case connect(PeerAddress)
        /// Not to be connected to again; a connection that is there may end by itself.
        case letGo(PeerAddress)
    }

    private struct Known: Sendable {
        let name: PeerAddress
        var dueMicros: UInt64 = 0
        var isAsked = false
        /// Addresses and how many answers in a row were without them, in the order of their arrival.
        var addresses: [(host: String, misses: Int)] = []
    }

    private let config: DiscoveryConfig
    private var names: [Known]

    /// - Parameter names: a host name and a port each; a name that is given twice counts once.
    init(_ names: [PeerAddress], config: DiscoveryConfig = DiscoveryConfig()) {
        self.config = config
        self.names = []
        for name in names where !self.names.contains(where: { $0.name == name }) {
            self.names.append(Known(name: name))
        }
    }

    /// The names to be looked up now; each is to be answered.
    mutating func due(_ now: UInt64) -> [PeerAddress] {
        var due: [PeerAddress] = []
        for index in names.indices where !names[index].isAsked && names[index].dueMicros <= now {
            names[index].isAsked = true
            due.append(names[index].name)
        }
        return due
    }

    /// When the next name is due; nil while all are being asked.
    var nextMicros: UInt64? { names.filter { !$0.isAsked }.map(\.dueMicros).min() }

    mutating func answered(_ name: PeerAddress, _ answer: Answer, now: UInt64) -> [Action] {
        guard let index = names.firstIndex(where: { $0.name == name }), names[index].isAsked else { return [] }
        names[index].isAsked = false
        guard case .addresses(let found) = answer else {
            names[index].dueMicros = now + config.retryMS * 1000
            return []
        }
        names[index].dueMicros = now + config.everyMS * 1000
        var actions: [Action] = []
        for host in found.prefix(config.maxAddresses) {
            if let place = names[index].addresses.firstIndex(where: { $0.host == host }) {
                names[index].addresses[place].misses = 0
                continue
            }
            let address = PeerAddress(host: host, port: name.port)
            if !isKnown(address) { actions.append(.connect(address)) }
            names[index].addresses.append((host, 0))
        }
        for old in names[index].addresses where !found.contains(old.host) {
            guard let place = names[index].addresses.firstIndex(where: { $0.host == old.host }) else { continue }
            names[index].addresses[place].misses += 1
            guard old.misses + 1 >= config.missesToLetGo else { continue }
            names[index].addresses.remove(at: place)
            let address = PeerAddress(host: old.host, port: name.port)
            if !isKnown(address) { actions.append(.letGo(address)) }
        }
        return actions
    }

    /// Whether some name has it: several roles may live in one process.
    private func isKnown(_ address: PeerAddress) -> Bool {
        names.contains { $0.name.port == address.port && $0.addresses.contains { $0.host == address.host } }
    }
}

/// Times and bounds of discovery.
public struct DiscoveryConfig: Sendable, Equatable {
    /// Between an answer and the next question for a name.
    public var everyMS: UInt64 = 3000
    /// After a resolver that did not answer.
    public var retryMS: UInt64 = 1000
    /// Answers in a row without an address after which it is let go.
    public var missesToLetGo = 3
    /// Addresses of one name; more are not looked at.
    public var maxAddresses = 1024

    public init() {}
}
