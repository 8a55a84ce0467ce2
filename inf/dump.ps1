<#
.SYNOPSIS
Collects what is needed to look at a crash: the dump, the driver with its symbols, and what the system is.

.PARAMETER Folder
Where it goes.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [string] $Folder = (Join-Path (Get-Location) 'sluice-crash')
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

$control = Get-ItemProperty 'HKLM:\SYSTEM\CurrentControlSet\Control\CrashControl'
if ($control.CrashDumpEnabled -eq 0) {
    throw 'Crash dumps are switched off: set a kernel dump in the system properties, and wait for the next crash.'
}
$dump = [Environment]::ExpandEnvironmentVariables($control.DumpFile)
if (-not (Test-Path -LiteralPath $dump)) {
    throw "There is no dump at $dump."
}

if ($PSCmdlet.ShouldProcess($Folder, "Copy $dump")) {
    New-Item -ItemType Directory -Force -Path $Folder | Out-Null
    Copy-Item -LiteralPath $dump -Destination $Folder
    foreach ($name in 'sluice.sys', 'sluice.pdb') {
        $file = Join-Path $PSScriptRoot $name
        if (Test-Path -LiteralPath $file) {
            Copy-Item -LiteralPath $file -Destination $Folder
        } else {
            Write-Warning "$file is missing: the dump can be read, but without the driver's names."
        }
    }
    & verifier.exe /querysettings | Set-Content (Join-Path $Folder 'verifier.txt')
    Get-ComputerInfo -Property OsName, OsVersion, OsBuildNumber, WindowsVersion | Out-File (Join-Path $Folder 'system.txt')
    Get-WinEvent -FilterHashtable @{ LogName = 'System'; Id = 1001 } -MaxEvents 5 -ErrorAction SilentlyContinue |
        Format-List TimeCreated, Message | Out-File (Join-Path $Folder 'bugcheck.txt')
    Write-Output "Open the dump in WinDbg, with .sympath+ $Folder, and begin with !analyze -v."
}
