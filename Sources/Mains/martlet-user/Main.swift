import ArgumentParser
import MartletSuite

@main
struct MartletUser: ServiceExecutable {
    static let role = "user"
    static let abstract = "Apps, users, profiles, the user index, sync."
    @OptionGroup var options: ServiceOptions
}
