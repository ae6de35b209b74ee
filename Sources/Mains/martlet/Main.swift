import ArgumentParser
import MartletBench
import MartletCheck
import MartletOps
import MartletSuite
import MartletTools

/// One program: the command-line tool, or, under the name martlet-im and the like, that service.
@main
enum Program {
    static func main() async {
        let name = CommandLine.arguments.first ?? ""
        if NamedService.role(of: name) != nil { await NamedService.main() } else { await Martlet.main() }
    }
}

/// The command-line tool: the suite, its clients and its checker.
struct Martlet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "martlet",
        abstract: "Instant messaging that you run yourself: one process on a laptop, a cluster for everybody.",
        discussion: "Start with `martlet up`, open the address that it prints, and `martlet chat --user alice`.",
        version: MartletVersion.text,
        subcommands: [
            UpCommand.self, ChatCommand.self, CheckCommand.self, BenchCommand.self, OpsCommand.self,
            VersionCommand.self, ServeCommand.self, ConfigCommand.self, HealthCommand.self, DoctorCommand.self,
        ])
}

/// `martlet version`
struct VersionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "version", abstract: "Print the version.")
    func run() { print(MartletVersion.text) }
}
