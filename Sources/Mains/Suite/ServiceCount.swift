import ArgumentParser

/// How many processes of a service there are: `msgwriter=4`.
public struct ServiceCount: ExpressibleByArgument, Equatable, Sendable {
    /// A role of `Topology.plan`.
    public let role: String
    /// From 1 to `most`.
    public let number: Int
    /// A service has no use for more processes than there are buckets.
    static let most = MySQLSettings.buckets

    /// Nil: no such service, one of which there is only one, or a number that makes no sense.
    public init?(argument: String) {
        let parts = argument.split(separator: "=", omittingEmptySubsequences: false)
        guard parts.count == 2, let number = Int(parts[1]), (1...Self.most).contains(number),
            Topology.plan.contains(where: { $0.role == parts[0] }), !Topology.single.contains(String(parts[0]))
        else { return nil }
        role = String(parts[0])
        self.number = number
    }
}
