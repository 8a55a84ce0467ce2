<#
.SYNOPSIS
Installs the filter from the package in this folder.

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

foreach ($file in $Inf, (Join-Path (Split-Path $Inf) 'sluice.sys'), (Join-Path (Split-Path $Inf) 'sluice.cat')) {
    if (-not (Test-Path -LiteralPath $file)) {
        throw "$file is missing: the package is not complete."
    }
}
if (Get-Service -Name sluice -ErrorAction SilentlyContinue) {
    throw 'The service sluice is there already. Run uninstall.ps1 first.'
}

if ($PSCmdlet.ShouldProcess($Inf, 'Install the network component Sluice_sluice')) {
    & netcfg.exe -v -l $Inf -c s -i Sluice_sluice
    if ($LASTEXITCODE -ne 0) {
        throw "netcfg ended with $LASTEXITCODE. Its log is $env:windir\INF\setupapi.dev.log."
    }
    Get-Service -Name sluice
    Get-NetAdapterBinding -ComponentID Sluice_sluice | Format-Table Name, Enabled
}
