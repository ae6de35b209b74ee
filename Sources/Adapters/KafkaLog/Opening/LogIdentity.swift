/// Which log it is, out of the records of its identity topic: a random number that was given when the log was first
/// used, and how far the log was seen to go since. A topic that was made again, or lost its end, is shorter than that:
/// it gets another number, and so whoever stored records of the old one stops instead of taking the new one's for its
/// own.
///
/// Everybody reads the same records in the same order, so everybody comes to the same number, whoever wrote first.
struct LogIdentity: Equatable, Sendable {
    /// One record of the identity topic.
    enum Note: Equatable, Sendable {
        /// The log is called `id` from here on, if it was called `after` (0: nothing) before.
        case named(id: UInt64, after: UInt64)
        /// Of the log of that number these ends were seen.
        case ends(id: UInt64, [UInt64])
    }

    private(set) var id: UInt64 = 0
    private(set) var ends: [UInt64] = []

    /// The next record. What does not fit is left out: of two who name a log the first has named it.
    mutating func read(_ note: Note) {
        switch note {
        case .named(let new, let after) where after == id && new != 0:
            id = new
            ends = []
        case .ends(let of, let found) where of == id && id != 0:
            for (index, end) in found.enumerated() {
                if index < ends.count { ends[index] = max(ends[index], end) } else { ends.append(end) }
            }
        case .named, .ends: break
        }
    }

    /// Whether a log with these ends can be the one that was named.
    func fits(_ found: [UInt64]) -> Bool {
        id != 0 && zip(ends, found).allSatisfy { $0 <= $1 } && ends.count <= found.count
    }
}

extension LogIdentity.Note {
    /// Compaction keeps the last record of each key: every name, and the last ends of each.
    var key: String {
        switch self {
        case .named(let id, _): "name \(id)"
        case .ends(let id, _): "ends \(id)"
        }
    }

    var text: String {
        switch self {
        case .named(let id, let after): "martlet-log 1 named \(id) after \(after)"
        case .ends(let id, let ends): "martlet-log 1 ends \(id) \(ends.map(String.init).joined(separator: ","))"
        }
    }

    /// Nil when it is not of this version, or not ours at all.
    init?(_ text: String) {
        let words = text.split(separator: " ")
        guard words.count >= 4, words[0] == "martlet-log", words[1] == "1", let id = UInt64(words[3]) else {
            return nil
        }
        switch words[2] {
        case "named":
            guard words.count == 6, words[4] == "after", let after = UInt64(words[5]) else { return nil }
            self = .named(id: id, after: after)
        case "ends":
            let numbers = words.count == 5 ? words[4].split(separator: ",").map { UInt64($0) } : []
            guard !numbers.contains(nil) else { return nil }
            self = .ends(id: id, numbers.compactMap { $0 })
        default: return nil
        }
    }
}
