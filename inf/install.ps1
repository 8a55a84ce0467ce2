<#
.SYNOPSIS
Installs the filter from the package in this folder.

.DESCRIPTION
Binding a filter restarts the stack of each adapter: connections drop, remote desktop and 802.1X among them.

.PARAMETER Inf
The INF; the one beside this script by default.
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding(SupportsShouldProcess)]
param(
    [string] $Inf = (Join-Path $PSScriptRoot 'sluice.inf')
)

Set-StrictMode -Version Latest
$ErrorActionPreference = 'Stop'

if (-not (Test-Path -LiteralPath $Inf -PathType Leaf)) {
    throw "$Inf is missing: the package is not complete."
}
# A name without a folder has no parent, and netcfg wants a full path.
$Inf = (Resolve-Path -LiteralPath $Inf).ProviderPath
foreach ($name in 'sluice.sys', 'sluice.cat') {
    $file = Join-Path (Split-Path -Parent $Inf) $name
    if (-not (Test-Path -LiteralPath $file -PathType Leaf)) {
        throw "$file is missing: the package is not complete."
    }
}
if (Get-Service -Name sluice -ErrorAction SilentlyContinue) {
    throw 'The service sluice is there already. Run upgrade.ps1 for another version, or uninstall.ps1 first.'
}

if ($PSCmdlet.ShouldProcess($Inf, 'Install the network component Sluice_sluice')) {
    & netcfg.exe -v -l $Inf -c s -i Sluice_sluice
    if ($LASTEXITCODE -ne 0) {
        throw "netcfg ended with $LASTEXITCODE. Its log is $env:windir\INF\setupapi.dev.log."
    }
    $service = Get-Service -Name sluice -ErrorAction SilentlyContinue
    if (-not $service -or $service.Status -ne 'Running') {
        throw "netcfg reports success, but the service sluice does not run. Look at $env:windir\INF\setupapi.dev.log, and at: sc.exe start sluice"
    }
    $service
    Get-NetAdapterBinding -ComponentID Sluice_sluice -ErrorAction SilentlyContinue | Format-Table Name, Enabled
}
