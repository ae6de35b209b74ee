/// How many elements the collections of a value hold, by their place in it: `LoginMachine.deliveries.pending`. Read by
/// reflection, so that nothing that a machine keeps can be forgotten. Elements of collections count under one name,
/// classes (stores behind their machines) are not looked into.
public struct Footprint: Equatable, Sendable {
    /// Places that hold something.
    public private(set) var counts: [String: Int] = [:]

    public init() {}

    public init(of machine: Any) { look(machine, String(describing: type(of: machine)), depth: 0) }

    /// The smaller count of every place: what was there both times.
    public func least(_ other: Footprint) -> Footprint {
        var both = Footprint()
        for (place, count) in counts {
            if let again = other.counts[place] { both.counts[place] = min(count, again) }
        }
        return both
    }

    /// The larger count of every place.
    public func most(_ other: Footprint) -> Footprint {
        var both = self
        for (place, count) in other.counts { both.counts[place] = max(count, both.counts[place] ?? 0) }
        return both
    }

    private static let deepest = 12

    private mutating func look(_ value: Any, _ place: String, depth: Int) {
        guard depth < Self.deepest, !(value is String) else { return }
        let mirror = Mirror(reflecting: value)
        switch mirror.displayStyle {
        case .class?: return
        case .collection?, .dictionary?, .set?:
            guard !mirror.children.isEmpty else { return }
            counts[place, default: 0] += mirror.children.count
            // Bytes are one thing, whatever their number.
            if value is [UInt8] { return }
            for child in mirror.children { look(child.value, place + "[]", depth: depth + 1) }
        case .optional?:
            for child in mirror.children { look(child.value, place, depth: depth + 1) }
        default:
            for child in mirror.children {
                look(child.value, child.label.map { "\(place).\($0)" } ?? place, depth: depth + 1)
            }
        }
    }
}
