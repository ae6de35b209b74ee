import ArgumentParser

/// `martlet ops`: looks after the backends of a deployment.
public struct OpsCommand: AsyncParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "ops",
        abstract: "Look after the backends of a deployment: layouts, shards, topics, dead letters, tiers.",
        discussion: """
            Backends are named as for `martlet up`. Everything but `dead-letters` of a data folder works beside running
            services. Exit code 0: done, and nothing found wrong; 1: something is wrong, which one line says with what
            to do about it; 64: the command line makes no sense. Docs/operating.md has an example of each.
            """,
        subcommands: [
            MigrateCommand.self, ShardsCommand.self, TopicsCommand.self, DeadLettersCommand.self, VerifyCommand.self,
        ])

    public init() {}
}
